"""Comparisons as plain text that is also Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slotreel.protocols.symptoms import health_in_words
from slotreel.scores import (
    COLUMNS,
    DETAILS,
    LESS_IS_BETTER,
    RUNS,
    Comparison,
    Row,
    best_trivial,
    check_same,
    skills,
)

HEADLINES = ("fg_ari_video", "mbo_video", "jf")  # what a run is judged by


def score_table_text(comparisons: Sequence[Comparison], metrics: Sequence[str] = ()) -> str:
    """All comparisons as plain text that is also Markdown; percent with one decimal.

    Below each table stand the trivial rows that beat the run: they are part of the result.

    Args:
        comparisons: one per set and protocol.
        metrics: columns to show; empty shows all that were measured.

    Raises:
        ValueError: if rows of a comparison differ in set, protocol or videos, or there are none.
    """
    return "\n\n".join(_section(comparison, metrics) for comparison in comparisons)


def _section(comparison: Comparison, metrics: Sequence[str]) -> str:
    """Heading, table and remarks of one comparison."""
    columns = columns_of(comparison.rows, metrics)
    table = markdown_table(table_lines(comparison, columns))
    return "\n".join([*heading(comparison), "", table, "", *remarks(comparison, columns)])


def heading(comparison: Comparison) -> list[str]:
    """What was scored, and the protocol in one line."""
    first = check_same(comparison.rows)
    what = (
        f"{first.set} / {first.protocol}: {len(first.rows)} videos"
        + (f", K = {comparison.num_slots}" if comparison.num_slots else "")
        + f", masks of the {comparison.masks}"
    )
    return [what, f"protocol {first.description}"]


def table_lines(comparison: Comparison, columns: Sequence[str]) -> list[list[str]]:
    """Cells as text: headings, one line per row, how many samples, and the skill of runs."""
    first, best = check_same(comparison.rows), best_trivial(comparison.rows)
    lines = [["percent", *(COLUMNS.get(metric, metric) for metric in columns)]]
    for row in comparison.rows:
        lines.append([row.caption(), *_percent(row.table.means(), columns, "{:.1f}")])
    lines.append(["samples", *_samples(first.counts(), columns)])
    for row in _runs(comparison) if best else []:
        lines.append([f"skill of {row.kind}", *_percent(skills(row, best), columns, "{:+.1f}")])
    return lines


def remarks(comparison: Comparison, columns: Sequence[str]) -> list[str]:
    """What stands below the table, a line each."""
    first, best = check_same(comparison.rows), best_trivial(comparison.rows)
    runs = _runs(comparison)
    oracle = any(row.kind == "oracle" for row in comparison.rows)
    lines = [f"Counted: {first.counted()}."]
    if {"fg_ari_video", "fg_ari_frame"} & set(columns):
        lines += ["A score is per video unless marked /frame; 2+ = with two or more objects."]
    if best and runs:
        lines += ["skill = (score - best trivial) / (100 - best trivial), in percent."]
        lines += ["Rows that see the truth are no yardstick."] if oracle else []
    lines += [sentence for row in runs if (sentence := _defeats(row, best, columns))]
    lines += [line for row in runs for line in _published(row, comparison)]
    if comparison.masks in comparison.health:
        lines += [health_in_words(comparison.masks, comparison.health[comparison.masks])]
    return lines


def verdict(comparison: Comparison) -> str:
    """One line that says whether the run beats the trivial rows; empty where nothing is compared.

    Judged by FG-ARI, mBO and J&F, or by the first column where none of them was measured; other
    columns in which a trivial row wins are named. The run's last state counts, not the best.
    """
    best = best_trivial(comparison.rows)
    row = next((row for row in _runs(comparison) if row.kind != "best"), None)
    if row is None:
        return ""
    means = row.table.means()
    columns = [m for m in columns_of(comparison.rows) if m in best and m not in LESS_IS_BETTER]
    ahead = {m: round(100 * (means[m] - best[m][0]), 1) + 0.0 for m in columns if m in means}
    judged = [m for m in HEADLINES if m in ahead] or list(ahead)[:1]
    lost = [m for m in ahead if means[m] <= best[m][0]]
    won = ", ".join(
        f"{_name(m)} {ahead[m]:+.1f} over {best[m][1]}" for m in judged if m not in lost
    )
    defeats: dict[str, list[str]] = {}
    for m in (m for m in judged if m in lost):
        defeats.setdefault(best[m][1], []).append(f"{_name(m)} ({ahead[m]:+.1f})")
    if defeats:
        rivals = ", ".join(f"{rival} in {' and '.join(by)}" for rival, by in defeats.items())
        return f"{row.label} does NOT beat {rivals}" + (f"; {won}" if won else "")
    others = f"; but not in {', '.join(map(_name, lost))}" if lost else ""
    return f"{row.label} beats every trivial row: {won}{others}" if won else ""


def _name(metric: str) -> str:
    return COLUMNS.get(metric, metric)


def _runs(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.rows if row.kind in RUNS]


def columns_of(rows: Sequence[Row], metrics: Sequence[str] = ()) -> list[str]:
    """Metrics to show, those of ``COLUMNS`` first."""
    found = {metric for row in rows for metric in row.table.means()}
    everything = [*COLUMNS, *sorted(found - COLUMNS.keys() - DETAILS)]
    return [metric for metric in metrics or everything if metric in found]


def _percent(values: Mapping[str, float], columns: Sequence[str], form: str) -> list[str]:
    # adding 0 turns -0.0 into 0.0
    return [form.format(round(100 * values[m], 1) + 0.0) if m in values else "-" for m in columns]


def _samples(counts: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{counts[metric]:g}" if metric in counts else "-" for metric in columns]


def _published(row: Row, comparison: Comparison) -> list[str]:
    """One line per number of a paper that was measured the same way."""
    means, lines = row.table.means(), []
    for paper in comparison.published:
        if paper.protocol != row.table.protocol or paper.metric not in means:
            continue
        name = COLUMNS.get(paper.metric, paper.metric)
        if paper.videos != len(row.table.rows):
            lines.append(
                f"{name} {100 * paper.value:.1f} was published on {paper.videos} videos and is not "
                f"compared with {len(row.table.rows)} ({paper.source})."
            )
            continue
        ours = means[paper.metric]
        lines.append(
            f"{name}: published {100 * paper.value:.1f} / ours {100 * ours:.1f} / difference "
            f"{100 * (ours - paper.value):+.1f} / seeds {comparison.seeds} ({paper.source})."
        )
    return lines


def _defeats(row: Row, best: dict[str, tuple[float, str]], columns: Sequence[str]) -> str:
    """One sentence that names every trivial row this run does not beat; empty if there is none."""
    means, lost = row.table.means(), dict[str, list[str]]()
    for metric in columns:
        if metric in best and metric in means and metric not in LESS_IS_BETTER:
            score, label = best[metric]
            if means[metric] <= score:
                lost.setdefault(label, []).append(COLUMNS.get(metric, metric))
    rivals = "; ".join(f"{label} on {', '.join(names)}" for label, names in lost.items())
    return f"{row.caption()} does not beat {rivals}." if lost else ""


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns, the first to the left and numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )
