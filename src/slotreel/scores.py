"""The final table: a run's scores with what trivial methods get under the same protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from slotreel.protocols.score_table import ScoreTable

COLUMNS = {  # metric -> heading, in the order of tables; other metrics follow under their own name
    "jf": "J&F",
    "j": "J",
    "f": "F",
    "fg_ari_video": "FG-ARI",
    "fg_ari_video_multi": "FG-ARI 2+",
    "fg_ari_frame": "FG-ARI/frame",
    "ari_video": "ARI",
    "ari_frame": "ARI/frame",
    "mbo_video": "mBO",
    "mbo_frame": "mBO/frame",
    "miou_video": "mIoU",
}
DETAILS = frozenset({"j_recall", "j_decay", "f_recall", "f_decay"})  # shown only when asked for
LESS_IS_BETTER = frozenset({"j_decay", "f_decay"})  # not scores out of 1: no skill, no winner


class Row(NamedTuple):
    """One line of the table.

    ``kind``: ``trivial`` (no training), ``oracle`` (no training and sees the truth), ``last`` (end
    of the run) or ``best`` (the checkpoint that validation picked, which uses labels).
    """

    label: str
    kind: str
    table: ScoreTable
    step: int | None = None

    def caption(self) -> str:
        """What the table calls the row."""
        if self.kind in ("trivial", "oracle"):
            return self.label
        notes = [] if self.step is None else [f"step {self.step}"]
        notes += ["selected with labels"] if self.kind == "best" else []
        return f"{self.label}, {self.kind}" + (f" ({', '.join(notes)})" if notes else "")


class Comparison(NamedTuple):
    """Rows of one set under one protocol; two protocols never share a column."""

    rows: Sequence[Row]
    num_slots: int  # K of run and trivial rows
    masks: str  # whose masks were scored: decoder or grouper


def skill(score: float, best_trivial: float) -> float:
    """Share of the way from the best trivial row to a perfect score; negative = trivial wins.

    NaN where the trivial row is already perfect.
    """
    return (score - best_trivial) / (1 - best_trivial) if best_trivial < 1 else math.nan


def best_trivial(rows: Iterable[Row]) -> dict[str, tuple[float, str]]:
    """Highest score per metric among the rows without training, with the row's label.

    Oracles are left out: they see the truth. The first of equal rows is named.
    """
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row.kind == "trivial":
            for metric, score in row.table.means().items():
                if metric not in best or score > best[metric][0]:
                    best[metric] = (score, row.label)
    return best


def flat_scores(row: Row, trivial: Iterable[Row] = ()) -> dict[str, float]:
    """Values to log: ``val/<set>/<protocol>/<metric>`` and, with trivial rows, ``.../skill``.

    Args:
        row: the run's row.
        trivial: rows of the same set and protocol.

    Raises:
        ValueError: if a trivial row belongs to another set, protocol or choice of videos.
    """
    trivial = list(trivial)
    _check_same([row, *trivial])
    prefix = f"val/{row.table.set}/{row.table.protocol}"
    means = row.table.means()
    values = {f"{prefix}/{metric}": score for metric, score in means.items()}
    skills = _skills(row, best_trivial(trivial))
    return values | {f"{prefix}/{metric}/skill": value for metric, value in skills.items()}


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
    first, best = _check_same(comparison.rows), best_trivial(comparison.rows)
    runs = [row for row in comparison.rows if row.kind in ("last", "best")]
    oracle = any(row.kind == "oracle" for row in comparison.rows)
    columns = _columns(comparison.rows, metrics)
    lines = [["percent", *(COLUMNS.get(metric, metric) for metric in columns)]]
    for row in comparison.rows:
        lines.append([row.caption(), *_percent(row.table.means(), columns, "{:.1f}")])
    for row in runs if best else []:
        lines.append([f"skill of {row.kind}", *_percent(_skills(row, best), columns, "{:+.1f}")])
    remarks = ["A score is per video unless marked /frame; 2+ = videos with two or more objects."]
    if best and runs:
        remarks += ["skill = (score - best trivial) / (100 - best trivial), in percent."]
        remarks += ["Rows that see the truth are no yardstick."] if oracle else []
    remarks += [sentence for row in runs if (sentence := _defeats(row, best, columns))]
    heading = (
        f"{first.set} / {first.protocol}: {len(first.rows)} videos, K = {comparison.num_slots}, "
        f"masks of the {comparison.masks}"
    )
    protocol = f"protocol {first.description}"
    return "\n".join([heading, protocol, "", _markdown(lines), "", *remarks])


def _columns(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Metrics to show, those of ``COLUMNS`` first."""
    found = {metric for row in rows for metric in row.table.means()}
    everything = [*COLUMNS, *sorted(found - COLUMNS.keys() - DETAILS)]
    return [metric for metric in metrics or everything if metric in found]


def _percent(values: Mapping[str, float], columns: Sequence[str], form: str) -> list[str]:
    # adding 0 turns -0.0 into 0.0
    return [form.format(round(100 * values[m], 1) + 0.0) if m in values else "-" for m in columns]


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


def _skills(row: Row, best: dict[str, tuple[float, str]]) -> dict[str, float]:
    """Skill per metric that both sides have; left out where the trivial row is perfect."""
    skills = {
        metric: skill(score, best[metric][0])
        for metric, score in row.table.means().items()
        if metric in best and metric not in LESS_IS_BETTER
    }
    return {metric: value for metric, value in skills.items() if math.isfinite(value)}


def _check_same(rows: Sequence[Row]) -> ScoreTable:
    """The first table, after making sure that all rows scored the same videos the same way."""
    if not rows:
        raise ValueError("expected at least one row to compare, got none")
    first = rows[0].table
    for row in rows:
        for what in ("set", "protocol", "description"):
            mine, theirs = getattr(first, what), getattr(row.table, what)
            if mine != theirs:
                raise ValueError(
                    f"rows {rows[0].label!r} and {row.label!r} differ in {what}: {mine!r} and "
                    f"{theirs!r}; two protocols never share a column, give each its own Comparison"
                )
        if row.table.rows.keys() != first.rows.keys():
            odd = sorted(row.table.rows.keys() ^ first.rows.keys())
            raise ValueError(
                f"rows {rows[0].label!r} and {row.label!r} scored different videos, e.g. "
                f"{odd[0]!r} ({len(odd)} in all); score both on the same set"
            )
    return first


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns, the first to the left and numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def scores_json(comparisons: Sequence[Comparison], **facts: Any) -> dict[str, Any]:
    """Everything the tables show and every video's row, as fractions, fit for ``write_json``.

    Layout: ``{**facts, "sets": {set: {protocol: {"description", "num_videos", "num_slots",
    "masks", "rows": [{"label", "kind", "step", "means", "counts", "skill", "videos"}]}}}}``; a
    skill is missing where the trivial row is perfect.

    Args:
        comparisons: one per set and protocol.
        facts: more to store at the top, e.g. ``seed=0, checkpoint="..."``.

    Raises:
        ValueError: if a set and protocol come twice, or rows that do not belong together are
            compared.
    """
    sets: dict[str, dict[str, Any]] = {}
    for comparison in comparisons:
        first = _check_same(comparison.rows)
        protocols = sets.setdefault(first.set, {})
        if first.protocol in protocols:
            raise ValueError(f"{first.set} / {first.protocol} came twice; merge its rows into one")
        best = best_trivial(comparison.rows)
        protocols[first.protocol] = {
            "description": first.description,
            "num_videos": len(first.rows),
            "num_slots": comparison.num_slots,
            "masks": comparison.masks,
            "rows": [_row_json(row, best) for row in comparison.rows],
        }
    return {**facts, "sets": sets}


def _row_json(row: Row, best: dict[str, tuple[float, str]]) -> dict[str, Any]:
    return {
        "label": row.label,
        "kind": row.kind,
        "step": row.step,
        "selected_with_labels": row.kind == "best",
        "means": row.table.means(),
        "counts": row.table.counts(),
        "skill": _skills(row, best) if row.kind in ("last", "best") else {},
        "videos": row.table.to_dict()["rows"],
    }
