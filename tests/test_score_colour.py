"""The final table on a terminal: colours, narrow widths, and the verdict in words."""

from __future__ import annotations

import io
import itertools
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from slotreel.protocols.score_table import ScoreTable, VideoFacts
from slotreel.report import show_scores, write_report
from slotreel.runtime.logging import FILE_ONLY, setup_logging
from slotreel.score_colour import print_scores
from slotreel.score_text import verdict
from slotreel.scores import COLUMNS, Comparison, Row

SHOWN = [m for m in COLUMNS if m not in ("jf", "j", "f")]
BOLD_GREEN, BOLD_RED, DIM = "\x1b[1;32m", "\x1b[1;31m", "\x1b[2m"


def row(label: str, kind: str, scores: Mapping[str, float], protocol: str = "p") -> Row:
    metrics = {metric: (score, 1.0) for metric, score in scores.items()}
    return Row(
        label, kind, ScoreTable("set", protocol, "line", {"a": metrics}, {"a": VideoFacts(3, 2)}), 9
    )


def two(fg_ari: float, mbo: float, rest: float = 0.5) -> dict[str, float]:
    return dict.fromkeys(SHOWN, rest) | {"fg_ari_video": fg_ari, "mbo_video": mbo}


def comparison(run: Mapping[str, float], kind: str = "last") -> Comparison:
    rows = [
        row("foreground/background (sees the truth)", "oracle", two(1, 1)),
        row("k-means on colours", "trivial", two(0.3, 0.5)),
        row("k-means on features", "trivial", two(0.4, 0.2)),
        row("this run", kind, run),
    ]
    return Comparison(rows, 5, "decoder")


def printed(comparisons: list[Comparison], width: int = 200, **options: bool) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system="standard", **options
    )  # type: ignore[arg-type]
    print_scores(console, comparisons, "runs/x/scores.md")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def line(text: str, start: str) -> str:
    (found,) = [x for x in text.splitlines() if re.sub(r"\x1b\[[0-9;]*m", "", x).startswith(start)][
        :1
    ]
    return found


# --- the verdict -----------------------------------------------------------------------------


def test_the_verdict_names_the_best_rival_of_each_headline() -> None:
    assert verdict(comparison(two(0.523, 0.65, rest=0.6))) == (
        "this run beats every trivial row: FG-ARI +12.3 over k-means on features, "
        "mBO +15.0 over k-means on colours"
    )
    assert verdict(comparison(two(0.523, 0.65, rest=0.5))).endswith(
        "mBO +15.0 over k-means on colours; but not in FG-ARI 2+, FG-ARI/frame, ARI, ARI/frame, "
        "mBO/frame, mIoU, mIoU/frame"
    )


def test_the_verdict_says_where_a_run_loses() -> None:
    assert verdict(comparison(two(0.22, 0.65))) == (
        "this run does NOT beat k-means on features in FG-ARI (-18.0); "
        "mBO +15.0 over k-means on colours"
    )
    assert verdict(comparison(two(0.1, 0.1))) == (
        "this run does NOT beat k-means on features in FG-ARI (-30.0), "
        "k-means on colours in mBO (-40.0)"
    )
    assert "does NOT beat k-means on features in FG-ARI (+0.0)" in verdict(
        comparison(two(0.4, 0.6))
    ), "a tie is no win"
    one = [row("blocks", "trivial", two(0.5, 0.5)), row("checkpoint", "model", two(0.4, 0.4))]
    assert verdict(Comparison(one, 5, "decoder")) == (
        "checkpoint does NOT beat blocks in FG-ARI (-10.0) and mBO (-10.0)"
    )


def test_the_verdict_is_about_the_last_state_and_about_what_was_measured() -> None:
    assert verdict(comparison(two(1, 1), kind="best")) == ""
    assert verdict(Comparison(comparison(two(1, 1)).rows[-1:], 5, "decoder")) == ""
    assert verdict(Comparison(comparison(two(1, 1)).rows[:-1], 5, "decoder")) == ""
    rows = [row("blocks", "trivial", {"j_fg": 0.5}), row("this run", "last", {"j_fg": 0.7})]
    assert verdict(Comparison(rows, 5, "decoder")) == (
        "this run beats every trivial row: j_fg +20.0 over blocks"
    )
    decay = [row("blocks", "trivial", {"j_decay": 0.5}), row("this run", "last", {"j_decay": 0.7})]
    assert verdict(Comparison(decay, 5, "decoder")) == "", "less is better there"


def test_the_verdict_is_stored_below_the_table(tmp_path: Path) -> None:
    one = comparison(two(0.6, 0.6, 0.7))
    text = write_report(tmp_path, [one])
    assert (tmp_path / "scores.md").read_text() == text + "\n"
    assert text.endswith(f"\n\n{verdict(one)}")
    others = [row._replace(table=row.table.from_dict(row.table.to_dict())) for row in one.rows]
    for other in others:
        other.table.protocol = "q"
    text = write_report(tmp_path, [one, Comparison(others, 5, "decoder")])
    assert text.endswith(f"\n\nset / p: {verdict(one)}\n\nset / q: {verdict(one)}")


# --- colours ---------------------------------------------------------------------------------


def test_wins_are_green_losses_red_oracles_dim_and_the_best_trivial_row_is_marked() -> None:
    text = printed([comparison(two(0.523, 0.4))])
    run = line(text, "this run, last")
    assert run.startswith("\x1b[1m")
    assert re.search(re.escape(BOLD_GREEN) + r" *52\.3", run)
    assert re.search(re.escape(BOLD_RED) + r" *40\.0", run)
    assert line(text, "foreground").startswith(DIM)
    assert line(text, "k-means on colours").split()[3:5] == ["30.0", "*50.0"]
    assert "*40.0" in line(text, "k-means on features")
    assert "*50.0" not in line(text, "k-means on features"), "the first of equal rows"
    assert BOLD_RED in line(text, "this run does NOT")
    assert BOLD_GREEN in line(printed([comparison(two(1, 1))]), "this run beats")


def test_without_colours_the_marks_remain() -> None:
    text = printed([comparison(two(0.523, 0.4))], no_color=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", text)
    assert "*50.0" in text
    assert "green" not in text


def test_without_trivial_rows_nothing_is_judged() -> None:
    text = printed([Comparison(comparison(two(1, 1)).rows[-1:], 5, "decoder")])
    assert "*" not in text
    assert "\x1b[1;3" not in text


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 120, 200])
def test_no_width_breaks_a_row(width: int) -> None:
    said = plain(printed([comparison(two(0.523, 0.4))], width))
    assert all(cell_len(x) <= width for x in said)
    start = next(i for i, x in enumerate(said) if x.startswith("percent"))
    rows = said[start + 2 : start + 8]
    head = said[start].split()
    assert [x[:8] for x in rows] == [
        "foregrou", "k-means ", "k-means ", "this run", "samples ", "skill of",
    ]  # fmt: skip
    assert "FG-ARI" in head
    assert ("mBO" in head) == (width >= 30)
    ends = [max(i for i, c in enumerate(x) if c == ".") for x in rows[:4]]
    assert len(set(ends)) == 1, "decimal points stand below each other"
    note = " ".join(" ".join(said).split())
    shown = sum(COLUMNS[m] in re.split(r" {2,}", said[start].strip()) for m in SHOWN)
    if shown < len(SHOWN):
        assert "too narrow for" in note
        assert "runs/x/scores.md" in note
    assert (shown == len(SHOWN)) == ("too narrow" not in note)


def test_wider_terminals_show_more_and_the_headlines_come_first() -> None:
    heads = []
    for width in (40, 80, 100, 120, 200):
        said = plain(printed([comparison(two(0.523, 0.4))], width))
        head = next(x for x in said if x.startswith("percent"))
        heads.append(set(re.split(r" {2,}", head.strip())))
    assert all(a <= b for a, b in itertools.pairwise(heads))
    assert heads[0] == {"percent", "FG-ARI", "mBO"}
    assert heads[-1] == {"percent", *(COLUMNS[m] for m in SHOWN)}


# --- where it is shown -----------------------------------------------------------------------


def test_colours_are_for_terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert not show_scores(tmp_path, [comparison(two(1, 1))])
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "90")
    assert show_scores(tmp_path, [comparison(two(1, 1))])
    assert BOLD_GREEN in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert show_scores(tmp_path, [comparison(two(1, 1))])
    out = capsys.readouterr().out
    assert "this run beats" in out
    assert BOLD_GREEN not in out


def test_what_was_shown_in_colour_goes_to_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    setup_logging(tmp_path, 0)
    log = logging.getLogger("slotreel.test")
    log.info("table one", extra={FILE_ONLY: True})
    log.info("table two", extra={FILE_ONLY: False})
    setup_logging(None, 1)
    assert "table one" not in screen.getvalue()
    assert "table two" in screen.getvalue()
    stored = (tmp_path / "train.log").read_text()
    assert "table one" in stored
    assert "table two" in stored
