"""Comparing runs: grouping, what they differ in, protocols apart, bootstrap, tables, the page."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import report as script
from slotreel.data.image_io import write_image
from slotreel.errors import ConfigError, DataError
from slotreel.files import write_json, write_text
from slotreel.protocols.score_table import ScoreTable, VideoFacts
from slotreel.reporting import tables
from slotreel.reporting.bootstrap import FEWEST, paired_differences
from slotreel.reporting.comparing import Cell, Line, cell_of, mark_best
from slotreel.reporting.costs import clips_per_second, hours
from slotreel.reporting.curves import MOST_POINTS, chart_of, charts, thin
from slotreel.reporting.finding import find_runs
from slotreel.reporting.page import collect, render
from slotreel.reporting.records import Record, read_record
from slotreel.reporting.svg import draw, ticks
from slotreel.reporting.variants import differing, group_runs, pick, settings_of
from slotreel.runtime.logging import RunLogger
from slotreel.scores import Comparison, Row, scores_json

PREFIX = "val/shapes/discovery"


def config(seed: int = 0, **changed: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "a-shapes", "seed": seed, "num_slots": 6, "image_size": 64,
        "backbone": {"_target_": "slotreel.backbones.patches.PatchPixels"},
        "grouper": {"_target_": "slotreel.groupers.slot_attention.SlotAttention", "num_iters": 1},
        "dataset": {"source": {"root": "/here/shapes"}},
        "trainer": {"num_steps": 20, "batch_size": 4},
        "paths": {"runs": f"runs{seed}", "data": "/here"},
    }  # fmt: skip
    return content | changed


def table(scores: list[float], protocol: str = "discovery") -> ScoreTable:
    rows = {f"v{i}": {"fg_ari_video": (x, 1.0)} for i, x in enumerate(scores)}
    facts = {video: VideoFacts(12, 3) for video in rows}
    return ScoreTable("shapes", protocol, f"{protocol}: all frames", rows, facts)


def write_run(
    directory: Path,
    cfg: dict[str, Any],
    scores: list[float] | None = None,
    *,
    protocols: tuple[str, ...] = ("discovery",),
    data: dict[str, Any] | None = None,
    steps: tuple[int, ...] = (10, 20),
) -> Path:
    """A run directory by the writers of real ones; without scores one that did not finish."""
    write_text(directory / "config.yaml", yaml.safe_dump(cfg))
    logger = RunLogger(directory, [], enabled=True, num_steps=20)
    for step in steps:
        values = {"train/loss": 1 / step, "perf/step_ms": 360.0, "perf/clips_s": float(step)}
        logger.log(step, values | {f"{PREFIX}/fg_ari_video": step / 100 + cfg["seed"]})
    logger.close()
    (directory / "media").mkdir()
    write_image(directory / "media" / "shapes_00.png", np.zeros((8, 12, 3), dtype=np.uint8))
    if scores is None:
        return directory
    health = {"grouper": {"num_slots": 6.0, "effective_slots": 3.25, "place_bias": 0.9}}
    comparisons = []
    for protocol in protocols:
        blocks = table([0.3] * len(scores), protocol)
        rows = [
            Row("sees the truth", "oracle", table([1.0] * len(scores), protocol)),
            Row("fixed blocks", "trivial", blocks),
            Row("this run", "last", table(scores, protocol), 20),
            Row("this run", "best", table([0.99] * len(scores), protocol), 10),
        ]
        comparisons.append(Comparison(rows, 6, "grouper", health=health, data=data))
    facts = {"seed": cfg["seed"], "step": 20, "wall_minutes": 2.0, "trainable_parameters": 1234}
    write_json(directory / "scores.json", scores_json(comparisons, **facts))
    return directory


def smtc(seed: int = 0) -> dict[str, Any]:
    return config(seed, grouper={"_target_": "slotreel.groupers.smtc.SMTC", "num_instances": 2})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two variants with two seeds each, the second better on every video."""
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        low = rng.uniform(0.4, 0.6, size=20).tolist()
        write_run(tmp_path / f"{seed}_a_seed{seed}", config(seed), low)
        high = [x + 0.1 + 0.02 * seed for x in low]
        write_run(tmp_path / f"{seed + 2}_b_seed{seed}", smtc(seed), high)
    return tmp_path


def records(*places: Path) -> list[Record]:
    return [read_record(path) for path in find_runs(places)]


# --- finding and reading ---------------------------------------------------------------------


def test_runs_are_found_once_and_in_order(sweep: Path) -> None:
    (sweep / "latest").symlink_to(sweep / "0_a_seed0")
    write_text(sweep / "trivial" / "blocks" / "scores.json", "{}")
    names = ["0_a_seed0", "1_a_seed1", "2_b_seed0", "3_b_seed1"]
    assert [p.name for p in find_runs([sweep])] == names
    assert [p.name for p in find_runs([sweep / "latest", f"{sweep}/*_b_*", sweep])] == [
        "latest", "2_b_seed0", "3_b_seed1", "1_a_seed1",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no run in"):
        find_runs([sweep / "nothing"])


def test_jobs_of_a_sweep_are_in_order_of_their_numbers_and_none_is_lost(tmp_path: Path) -> None:
    write_text(tmp_path / "multirun.yaml", "")
    for number in (2, 10):
        write_run(tmp_path / f"{number}_a", config(number))
    (tmp_path / "11_died").mkdir()
    (tmp_path / "code").mkdir()
    assert [p.name for p in find_runs([tmp_path])] == ["2_a", "10_a", "11_died"]
    assert "no config.yaml" in read_record(tmp_path / "11_died").problems[0]
    (tmp_path / "multirun.yaml").unlink()
    write_json(tmp_path / "sweep.json", {"points": {"10_a": {}, "never_began": {}}})
    assert [p.name for p in find_runs([tmp_path])] == ["10_a", "never_began", "2_a"]
    assert "no metrics.jsonl" in read_record(tmp_path / "never_began").problems[1]


def test_what_is_wrong_with_a_run_is_said(sweep: Path) -> None:
    cut, stopped, stale = (sweep / name for name in ("0_a_seed0", "1_a_seed1", "2_b_seed0"))
    (cut / "scores.json").write_text((cut / "scores.json").read_text()[:1000])
    (stopped / "scores.json").unlink()
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train/lo')
    with (stale / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/loss": 0.5}\n')
    write_text(stopped / "train.log", "2026-11-21 20:00:00,1 ERROR slotreel.main: out of memory\n")
    (sweep / "3_b_seed1" / "config.yaml").write_text("a: [")
    (sweep / "3_b_seed1" / "media" / "shapes_00.png").write_bytes(b"no picture")
    found = records(sweep)
    page = render(collect(found))
    said = [" ".join(record.problems) for record in found]
    assert "scores.json cannot be read" in said[0]
    assert "line 3" in said[1]
    assert "not finished: stands at step 20 of 20" in said[1]
    assert "its log says: out of memory" in said[1]
    assert "scores.json is of step 20, training went on to 40" in said[2]
    assert "config.yaml cannot be read" in said[3]
    assert "media/shapes_00.png cannot be read" in said[3]
    for record in found:
        assert page.count(record.name) >= 3, "named among problems, runs and details"


def test_a_later_row_of_a_step_wins(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config(), steps=(10, 20, 10))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "train/loss": 7.0}\n')
    history = read_record(run).history
    assert list(history) == [10, 20]
    assert history[10]["train/loss"] == 7.0
    assert history[10]["perf/clips_s"] == 10.0


# --- variants --------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_only_are_one_variant(sweep: Path) -> None:
    first, second = group_runs(records(sweep))
    assert first.label == "grouper=slot_attention"
    assert second.label == "grouper=smtc"
    assert [r.config["seed"] for r in second.records] == [0, 1]
    assert list(first.differences) == ["grouper._target_"]
    assert pick([first, second], None) is first
    assert pick([first, second], "smtc") is second
    with pytest.raises(ConfigError, match="names 2 variants"):
        pick([first, second], "grouper")


def test_the_same_seed_twice_counts_once(sweep: Path) -> None:
    write_run(sweep / "4_a_again", config(0))
    write_run(sweep / "5_a_again", config(0), [0.5] * 20)
    found = records(sweep)
    first, _ = group_runs(found)
    assert [r.name for r in first.records] == ["0_a_seed0", "1_a_seed1"]
    assert "only that one counts" in found[4].problems[-1]
    assert "only that one counts" in found[5].problems[-1]


def test_arguments_of_another_class_are_no_difference() -> None:
    other = smtc()
    slower = config(grouper={**config()["grouper"], "num_iters": 3})
    flat = [settings_of(c) for c in (config(), other, slower, config(num_slots=7))]
    assert differing(flat) == ["num_slots", "grouper._target_", "grouper.num_iters"]
    assert differing(flat[:2]) == ["grouper._target_"]


def test_where_data_lies_is_no_difference() -> None:
    elsewhere = config(
        dataset={"source": {"root": "/there/shapes"}}, paths={"runs": "r", "data": "/there"}
    )
    assert settings_of(elsewhere) == settings_of(config())
    assert settings_of(config())["dataset.source.root"] == "DATA/shapes"


# --- bootstrap -------------------------------------------------------------------------------


def test_a_constant_difference_is_certain() -> None:
    base = np.linspace(0.1, 0.5, 10).tolist()
    found = paired_differences([table([x + 0.25 for x in base])], [table(base)])["fg_ari_video"]
    assert found == pytest.approx((0.25, 0.25, 0.25))
    assert found.excludes_zero()


def test_the_interval_is_that_of_a_normal_mean() -> None:
    differences = np.random.default_rng(1).normal(0.02, 0.1, size=200)
    ours, base = table((0.5 + differences).tolist()), table([0.5] * 200)
    found = paired_differences([ours], [base])["fg_ari_video"]
    half = 1.96 * differences.std() / np.sqrt(200)
    assert found.value == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.15 * half)


SCORES = st.lists(
    st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 2), min_size=FEWEST, max_size=12
)


@settings(max_examples=15, deadline=None)
@given(SCORES)
def test_laws_of_the_bootstrap(pairs: list[tuple[float, float]]) -> None:
    ours, base = (table(list(side)) for side in zip(*pairs, strict=True))
    forth = paired_differences([ours], [base], resamples=200)["fg_ari_video"]
    back = paired_differences([base], [ours], resamples=200)["fg_ari_video"]
    assert forth == pytest.approx((-back.value, -back.high, -back.low))
    assert forth == paired_differences([ours], [base], resamples=200)["fg_ari_video"]
    gaps = [a - b for a, b in pairs]
    assert min(gaps) - 1e-9 <= forth.low <= forth.high <= max(gaps) + 1e-9
    twice = paired_differences([ours, ours], [base], resamples=200)["fg_ari_video"]
    assert twice == pytest.approx(forth), "seeds are averaged, they are no new videos"


def test_videos_with_more_samples_weigh_more_and_parts_are_combined() -> None:
    rows = {f"v{i}": {"j": (0.0, 1.0), "f": (0.5, 1.0)} for i in range(7)}
    heavy = {**rows, "v0": {"j": (9.0, 9.0), "f": (0.5, 1.0)}}
    one, other = (ScoreTable("s", "p", "d", r) for r in (heavy, rows))
    found = paired_differences([one], [other])
    assert found["j"].value == pytest.approx(9 / 15)
    assert found["jf"].value == pytest.approx((9 / 15 + 0) / 2)


def test_nothing_is_tested_where_nothing_can_be() -> None:
    few = table([0.1] * (FEWEST - 1))
    assert paired_differences([few], [few]) == {}
    with pytest.raises(ValueError, match="the same videos"):
        paired_differences([table([0.1] * 8)], [table([0.1] * 9)])
    with pytest.raises(ValueError, match="at least one table"):
        paired_differences([], [few])


# --- tables ----------------------------------------------------------------------------------


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


# --- curves and the page ---------------------------------------------------------------------


def test_curves_stop_where_a_seed_stops(tmp_path: Path) -> None:
    runs = [
        read_record(write_run(tmp_path / str(n), config(n), steps=steps))
        for n, steps in enumerate([(10, 20, 30), (10, 20)])
    ]
    chart = chart_of("title", f"{PREFIX}/fg_ari_video", [("a", 0, runs)])
    (curve,) = chart.curves
    assert curve.steps == [10, 20]
    assert curve.values == pytest.approx([0.6, 0.7])
    assert curve.spread == pytest.approx([0.5**0.5] * 2)
    ElementTree.fromstring(draw(chart))


def test_unfinished_runs_share_a_chart_only_if_their_settings_say_so(sweep: Path) -> None:
    write_run(sweep / "5_c", config(num_slots=7))
    write_run(sweep / "6_d", config(num_slots=8, image_size=128))
    contents = collect(records(sweep))
    main, _ = charts(contents.variants, contents.comparisons, ["shapes/discovery"])
    assert [chart.title for chart in main] == ["train/loss", "shapes/discovery FG-ARI"]
    assert [len(chart.curves) for chart in main] == [4, 3]
    assert main[1].levels == {"best row without training": pytest.approx(0.3)}


@given(st.lists(st.integers(0, 10**6), unique=True).map(sorted))
def test_thinning_keeps_the_ends(steps: list[int]) -> None:
    kept = thin(steps)
    assert len(kept) == min(len(steps), MOST_POINTS)
    assert kept[:1] + kept[-1:] == steps[:1] + steps[-1:]
    assert kept == sorted(set(kept))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert all(low - 0.01 * width <= tick <= low + 1.01 * width for tick in found)


def test_the_page_asks_for_nothing_and_shows_names_as_they_are(sweep: Path) -> None:
    write_run(sweep / "7_odd", config(3, name="<b>", num_slots="<script>alert(1)</script>"))
    page = render(collect(records(sweep)))
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!#|data:)[^"' >]""", page.split("<script>")[0])
    assert "url(" not in page
    assert "@import" not in page
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "effective slots" in page
    assert page.count('id="run-') == 5


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


def test_evaluations_of_the_last_state_are_columns_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", config(), [0.5] * 8)
    for step, name in ((20, "vos"), (10, "other")):
        row = Row("checkpoint", "model", table([0.7] * 8, name), step)
        content = scores_json([Comparison([row], 6, "grouper")], step=step)
        write_json(run / "eval" / name / "scores.json", json.loads(json.dumps(content)))
    record = read_record(run)
    assert [column.protocol for column in record.results] == ["discovery", "vos"]
    assert "eval/other/scores.json is of step 10" in record.problems[0]


def test_a_line_without_a_difference_is_never_bold() -> None:
    lines = [Line("a", "variant", {"jf": Cell(0.5, None, 1)})]
    mark_best(lines, ["jf"])
    assert not lines[0].bold
