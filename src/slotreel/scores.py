"""The final table: a run's scores with what trivial methods get under the same protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from slotreel.protocols.score_table import ScoreTable
from slotreel.protocols.symptoms import Health

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
    "miou_frame": "mIoU/frame",
}
DETAILS = frozenset({"j_recall", "j_decay", "f_recall", "f_decay"})  # shown only when asked for
RUNS = ("last", "best", "model")  # kinds of rows that are compared with the trivial ones
LESS_IS_BETTER = frozenset({"j_decay", "f_decay"})  # not scores out of 1: no skill, no winner


class Row(NamedTuple):
    """One line of the table.

    ``kind``: ``trivial`` (no training), ``oracle`` (no training and sees the truth), ``last`` (end
    of the run), ``best`` (the checkpoint that validation picked, which uses labels) or ``model``
    (whatever ``eval`` was told to score).
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
        label = self.label if self.kind == "model" else f"{self.label}, {self.kind}"
        return label + (f" ({', '.join(notes)})" if notes else "")


class Published(NamedTuple):
    """A number of a paper, to stand beside ours where the protocols match."""

    protocol: str  # name of the protocol
    metric: str
    value: float  # fraction
    videos: int  # how many it was measured on
    source: str


class Comparison(NamedTuple):
    """Rows of one set under one protocol; two protocols never share a column."""

    rows: Sequence[Row]
    num_slots: int | None  # K of run and trivial rows; None where slots play no part
    masks: str  # whose masks were scored: decoder or grouper
    published: Sequence[Published] = ()  # of the system that is scored
    seeds: int = 1  # runs behind the row
    health: Health = {}  # noqa: RUF012  slots of the system that is scored, by mask source
    data: Mapping[str, Any] | None = None  # settings of the videos; None if nobody wrote it down


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
    check_same([row, *trivial])
    prefix = f"val/{row.table.set}/{row.table.protocol}"
    means = row.table.means()
    values = {f"{prefix}/{metric}": score for metric, score in means.items()}
    beside = skills(row, best_trivial(trivial))
    return values | {f"{prefix}/{metric}/skill": value for metric, value in beside.items()}


def skills(row: Row, best: dict[str, tuple[float, str]]) -> dict[str, float]:
    """Skill per metric that both sides have; left out where the trivial row is perfect."""
    values = {
        metric: skill(score, best[metric][0])
        for metric, score in row.table.means().items()
        if metric in best and metric not in LESS_IS_BETTER
    }
    return {metric: value for metric, value in values.items() if math.isfinite(value)}


def check_same(rows: Sequence[Row]) -> ScoreTable:
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


def scores_json(comparisons: Sequence[Comparison], **facts: Any) -> dict[str, Any]:
    """Everything the tables show and every video's row, as fractions, fit for ``write_json``.

    Layout: ``{**facts, "sets": {set: {protocol: {"description", "data", "num_videos",
    "num_slots", "masks", "health": {source: {number: value}}, "rows": [{"label", "kind", "step",
    "means", "counts", "skill", "videos"}]}}}}``; a skill is missing where the trivial row is
    perfect.

    Args:
        comparisons: one per set and protocol.
        facts: more to store at the top, e.g. ``seed=0, checkpoint="..."``.

    Raises:
        ValueError: if a set and protocol come twice, or rows that do not belong together are
            compared.
    """
    sets: dict[str, dict[str, Any]] = {}
    for comparison in comparisons:
        first = check_same(comparison.rows)
        protocols = sets.setdefault(first.set, {})
        if first.protocol in protocols:
            raise ValueError(f"{first.set} / {first.protocol} came twice; merge its rows into one")
        best = best_trivial(comparison.rows)
        protocols[first.protocol] = {
            "description": first.description,
            "data": comparison.data,
            "counted": first.counted(),
            "num_videos": len(first.rows),
            "num_slots": comparison.num_slots,
            "masks": comparison.masks,
            "health": {source: dict(values) for source, values in comparison.health.items()},
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
        "parts": row.table.parts(),
        "counts": row.table.counts(),
        "skill": skills(row, best) if row.kind in RUNS else {},
        "videos": row.table.to_dict()["rows"],
        "facts": row.table.to_dict()["facts"],
    }
