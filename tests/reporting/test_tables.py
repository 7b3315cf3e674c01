"""Protocols stay apart; what stands in a table, and what is bold."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from scripts import report as script
from slotreel.errors import ConfigError
from slotreel.files import write_json
from slotreel.reporting import tables
from slotreel.reporting.bootstrap import Difference
from slotreel.reporting.comparing import Cell, Line, cell_of, mark_best
from slotreel.reporting.costs import clips_per_second, hours
from slotreel.reporting.page import collect
from slotreel.reporting.records import Record, read_record
from tests.reporting.runs import config, records, smtc, write_run


def test_cells() -> None:
    assert cell_of([None, 0.5]) == Cell(0.5, None, 1)
    assert cell_of([0.4, 0.6]) == pytest.approx(Cell(0.5, 0.02**0.5, 2))
    assert cell_of([None]) is None


def test_protocols_and_data_never_share_a_column(tmp_path: Path) -> None:
    both, scores = ("discovery", "vos"), [0.5] * 8
    write_run(tmp_path / "a", config(), scores, protocols=both, data={"root": "/x", "split": "val"})
    write_run(tmp_path / "b", smtc(), scores, data={"root": "/y", "split": "val"})
    write_run(tmp_path / "c", config(num_slots=7), scores, data={"split": "test"})
    write_run(tmp_path / "d", config(num_slots=8), [*scores, 0.5], data={"split": "val"})
    contents = collect(records(tmp_path))
    shown = [
        (c.column.protocol, [line.label for line in c.lines if line.variant])
        for c in contents.comparisons
    ]
    a, b, c, d = [variant.label for variant in contents.variants]
    assert shown == [("discovery", [a, b]), ("vos", [a]), ("discovery", [c]), ("discovery", [d])]
    titles = [place.title for place in tables.places_of(contents.comparisons, [])]
    assert titles == [
        "shapes/discovery (1)", "shapes/vos", "shapes/discovery (2)", "shapes/discovery (3)",
    ]  # fmt: skip


def test_tables(sweep: Path) -> None:
    contents = collect(records(sweep))
    (comparison,) = contents.comparisons
    assert [line.kind for line in comparison.lines] == ["oracle", "trivial", "variant", "variant"]
    entries = tables.entries_of(contents.comparisons, contents.variants)
    places = tables.places_of(contents.comparisons, [])
    text = tables.markdown(entries, places)
    head, _, truth, blocks, first, second = text.splitlines()[:6]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "percent", "shapes/discovery FG-ARI", "seeds",
        "trainable parameters", "training hours", "peak GB", "clips/s",
    ]  # fmt: skip
    assert re.search(r"sees the truth +\| +100.0 ± 0.0 \| +2 \| +- \|", truth)
    assert re.search(r"fixed blocks +\| +30.0 ± 0.0 \|", blocks)
    assert re.search(r"slot_attention +\| +\d\d\.\d ± \d\.\d \| +2 \| +1,234 \| +0.002 ", first)
    assert re.search(r"smtc +\| +\*\*\d\d\.\d ± \d\.\d\*\* \|", second)
    assert text.index("shapes/discovery: 20 videos, 60 objects") > 0
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(entries, places))))
    name = "shapes/discovery/fg_ari_video"
    assert float(rows[3][f"{name}/difference"]) == pytest.approx(0.11)
    assert 0 < float(rows[3][f"{name}/low"]) <= float(rows[3][f"{name}/high"])
    assert rows[2][f"{name}/difference"] == ""
    assert float(rows[3]["clips_s"]) == 15.0
    latex = tables.latex(entries, places)
    assert re.search(r"grouper=smtc & \$\\mathbf\{\d\d\.\d\} \\pm \d\.\d\$ & 2 & 1,234 &", latex)
    assert latex.count(r"\midrule") == 2
    widths = {
        len(re.sub(r"\\multicolumn\{\d\}\{c\}", "", line).split(" & "))
        for line in latex.splitlines() if line.endswith("\\\\")
    }  # fmt: skip
    assert widths == {7}


def test_latex_shows_names_unchanged() -> None:
    assert tables.escape(r"a_b & 5 % {x} \y") == r"a\_b \& 5 \% \{x\} \textbackslash{}y"


def test_bold_needs_a_certain_difference_and_no_better_trivial_row(sweep: Path) -> None:
    (comparison,) = collect(records(sweep), baseline="smtc").comparisons
    assert not any(line.bold for line in comparison.lines), "the best is the baseline itself"
    (comparison,) = collect(records(sweep)).comparisons
    assert comparison.lines[-1].bold == {"fg_ari_video"}
    blocks, better = comparison.lines[1], comparison.lines[-1]
    blocks.cells["fg_ari_video"] = Cell(0.95, None, 1)
    better.bold.clear()
    mark_best(comparison.lines, comparison.metrics)
    assert not any(line.bold for line in comparison.lines)


def test_metrics_that_were_not_measured_are_refused(sweep: Path) -> None:
    contents = collect(records(sweep))
    with pytest.raises(ConfigError, match="did you mean: fg_ari_video"):
        tables.places_of(contents.comparisons, ["fg_ari_vido"])


def test_costs(tmp_path: Path) -> None:
    record = read_record(write_run(tmp_path / "a", config(), [0.5] * 8))
    assert hours(record) == pytest.approx(20 * 0.36 / 3600)
    assert clips_per_second(record) == 15.0
    assert hours(Record(tmp_path)) is None


def test_a_line_is_bold_only_if_its_difference_is_certain() -> None:
    line = Line("a", "variant", {"jf": Cell(0.5, None, 1)})
    for low, bold in ((None, False), (-0.1, False), (0.05, True)):
        line.differences = {} if low is None else {"jf": Difference(0.1, low, 0.2)}
        mark_best([line], ["jf"])
        assert ("jf" in line.bold) == bold


def test_trivial_rows_are_told_apart_where_they_differ_and_named_alike_in_all_columns(
    tmp_path: Path,
) -> None:
    for place, (number, blocks) in enumerate([(6, 0.3), (4, 0.2)]):
        path = write_run(tmp_path / f"a{place}", config(num_slots=number), [0.5] * 8)
        content = json.loads((path / "scores.json").read_text())
        stored = content["sets"]["shapes"]["discovery"]
        stored["num_slots"] = number
        stored["rows"][1]["videos"] = {f"v{i}": {"fg_ari_video": [blocks, 1]} for i in range(8)}
        if number == 4:  # a second column, with one K only
            content["sets"]["others"] = {"discovery": stored}
        write_json(path / "scores.json", content)
    first, second = collect(records(tmp_path)).comparisons
    labels = [line.label for line in first.lines[:3]]
    assert labels == ["sees the truth", "fixed blocks (K = 6)", "fixed blocks (K = 4)"]
    assert [line.label for line in second.lines[:2]] == ["sees the truth", first.lines[2].label]


def test_the_script(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sweep / "out"
    files = [f"--{kind}={out}.{kind}" for kind in ("tex", "csv", "md")]
    assert script.main([str(sweep), *files, "-o", f"{out}.html"]) == 0
    assert {p.suffix for p in sweep.glob("out.*")} == {".tex", ".csv", ".md", ".html"}
    capsys.readouterr()
    assert script.main([str(sweep), "--md", "-", "--metrics", "all"]) == 0
    assert capsys.readouterr().out.startswith("| percent")
    assert script.main([str(sweep), "--baseline", "nobody"]) == 1
    assert "names no variant" in capsys.readouterr().err
    lone = write_run(sweep / "lone", config(9))
    assert script.main([str(lone), "--md", "-"]) == 1
    assert "none of these runs has finished" in capsys.readouterr().err
