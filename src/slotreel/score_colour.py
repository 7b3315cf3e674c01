"""Comparisons in colour, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from slotreel.score_text import HEADLINES, columns_of, heading, remarks, table_lines, verdict
from slotreel.scores import COLUMNS, LESS_IS_BETTER, RUNS, Comparison, Row, best_trivial

ALWAYS = 2  # columns that stay; the names of rows are cut for them
SHORTEST_NAME = 12


def print_scores(console: Console, comparisons: Sequence[Comparison], stored: str) -> None:
    """Print all comparisons: the run bold, green where it beats the trivial rows, red where not.

    Columns that do not fit are left out, FG-ARI and mBO last, and named.

    Args:
        console: a terminal; without colours (``NO_COLOR``) the marks remain.
        comparisons: one per set and protocol.
        stored: file that holds everything.
    """
    for comparison in comparisons:
        columns = columns_of(comparison.rows)
        table, left_out = _fitted(console, comparison, columns)
        what, protocol = heading(comparison)
        _print(console, f"\n{what}", "bold")
        _print(console, protocol, "dim")
        console.print()
        console.print(table)
        for line in [*_legend(console, comparison), *_missing(left_out, stored)]:
            _print(console, line, "dim")
        if said := verdict(comparison):
            _print(console, f"\n{said}", "bold red" if " NOT " in said else "bold green")
        _print(console, "\n" + "\n".join(remarks(comparison, columns)), "dim")


def _print(console: Console, text: str, style: str) -> None:
    console.print(Text(text, style=style))


def _fitted(
    console: Console, comparison: Comparison, columns: Sequence[str]
) -> tuple[Table, list[str]]:
    """The widest table that fits, and the columns it lacks."""
    order = sorted(columns, key=_importance)
    for number in range(len(columns), 0, -1):
        kept = [metric for metric in columns if metric in order[:number]]
        table = _table(comparison, kept)
        excess = _width(console, table) - console.width
        if excess <= 0:
            break
        names = max(len(line[0]) for line in table_lines(comparison, kept))
        if number == 1 or (number <= ALWAYS and names - excess >= SHORTEST_NAME):
            table.columns[0].width = max(1, names - excess)
            break
    return table, [metric for metric in columns if metric not in kept]


def _importance(metric: str) -> tuple[int, bool]:
    """Less is more: what a run is judged by, then scores per video, then variants of them."""
    place = HEADLINES.index(metric) if metric in HEADLINES else len(HEADLINES)
    return place, "_frame" in metric or metric.endswith("_multi")


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _table(comparison: Comparison, columns: Sequence[str]) -> Table:
    head, *lines = table_lines(comparison, columns)
    best = best_trivial(comparison.rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column(head[0], no_wrap=True, overflow="ellipsis")
    for name in head[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for number, line in enumerate(lines):
        row = comparison.rows[number] if number < len(comparison.rows) else None
        cells = [_cell(text, m, row, best) for m, text in zip(columns, line[1:], strict=True)]
        table.add_row(Text(line[0]), *cells, style=_style(row))
    return table


def _style(row: Row | None) -> str:
    if row is None or row.kind == "oracle":  # samples and skill: not scores of this table
        return "dim"
    return "bold" if row.kind in RUNS else ""


def _cell(text: str, metric: str, row: Row | None, best: dict[str, tuple[float, str]]) -> Text:
    """A score: marked if it is the best trivial one, coloured if it is a run's."""
    if row is None or metric not in best or metric in LESS_IS_BETTER:
        return Text(text)
    score, winner = best[metric]
    if row.kind == "trivial":
        return Text(f"*{text}" if row.label == winner else text)
    means = row.table.means()
    if row.kind not in RUNS or metric not in means:
        return Text(text)
    return Text(text, style="green" if means[metric] > score else "red")


def _legend(console: Console, comparison: Comparison) -> list[str]:
    if not best_trivial(comparison.rows):
        return []
    colours = "" if console.no_color else "; green: this run beats it, red: it does not"
    return [f"* best of the rows without training{colours}"]


def _missing(columns: Sequence[str], stored: str) -> list[str]:
    if not columns:
        return []
    names = ", ".join(COLUMNS.get(metric, metric) for metric in columns)
    return [f"too narrow for {names}: see {stored}"]
