"""Lines of a table of variants: mean and spread over seeds, trivial rows, costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from slotreel.protocols.score_table import ScoreTable
from slotreel.reporting.bootstrap import Difference, paired_differences
from slotreel.reporting.records import Column, Record, Result
from slotreel.reporting.variants import Variant
from slotreel.score_text import columns_of
from slotreel.scores import LESS_IS_BETTER, Row
from slotreel.trivial_runs import LABELS, OF_THE_BACKBONE

Origin = tuple[str, int | None, str]  # label of a row without training, its K, its backbone
Groups = dict[Origin, dict[int, Row]]  # rows without training by origin and seed
HEALTH = (  # what is shown beside scores; no single one of them is enough
    "effective_slots", "place_bias", "switch_rate", "identity_margin", "undecided", "agreement",
)  # fmt: skip


class Cell(NamedTuple):
    """Mean over seeds."""

    mean: float
    std: float | None  # of the seeds (n - 1 in the denominator); None with one seed
    seeds: int


def cell_of(values: Iterable[float | None]) -> Cell | None:
    """Mean and spread of what is there."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return Cell(statistics.fmean(known), spread, len(known))


@dataclass
class Line:
    """One row of a table: a variant, or a row without training.

    Attributes:
        label: as shown.
        kind: ``oracle``, ``trivial`` or ``variant``.
        cells: by metric.
        health: by name; of variants.
        differences: to the baseline, by metric; of variants other than the baseline.
        bold: metrics in which it is the best of all rows and its difference excludes 0.
        variant: that it shows.
    """

    label: str
    kind: str
    cells: dict[str, Cell]
    health: dict[str, Cell] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)
    bold: set[str] = field(default_factory=set)
    variant: Variant | None = None


@dataclass
class Comparison:
    """The lines of one column of sets and protocols, trivial rows on top.

    Attributes:
        column: what was scored.
        counted: videos, objects and frames in words.
        masks: whose masks were scored, by any of the runs.
        metrics: that were measured, in the order of tables.
        lines: rows.
    """

    column: Column
    counted: str
    masks: list[str]
    metrics: list[str]
    lines: list[Line]

    def best_trivial(self, metric: str) -> float | None:
        """Highest score of a row without training that does not see the truth."""
        if metric in LESS_IS_BETTER:
            return None
        cells = [line.cells.get(metric) for line in self.lines if line.kind == "trivial"]
        return max((cell.mean for cell in cells if cell), default=None)


def compare(variants: Sequence[Variant], baseline: Variant) -> list[Comparison]:
    """One comparison per column; what was scored another way stands in another one.

    Args:
        variants: to compare.
        baseline: the one differences are taken to.
    """
    finished = [record for variant in variants for record in variant.finished]
    columns = list(dict.fromkeys(c for record in finished for c in record.results))
    trivial = [_trivial_rows(column, finished) for column in columns]
    return [
        _comparison(column, variants, baseline, _trivial_lines(groups, trivial))
        for column, groups in zip(columns, trivial, strict=True)
    ]


def _comparison(
    column: Column, variants: Sequence[Variant], baseline: Variant, trivial: Sequence[Line]
) -> Comparison:
    results = [r.results[column] for v in variants for r in v.finished if column in r.results]
    lines, base = list(trivial), _tables(baseline, column)
    for variant in variants:
        tables = _tables(variant, column)
        if not tables:
            continue
        line = Line(variant.label, "variant", _cells(tables), variant=variant)
        line.health = _health([r.results[column] for r in variant.finished if column in r.results])
        if base and variant is not baseline:
            line.differences = paired_differences(tables, base)
        lines.append(line)
    metrics = columns_of([row for result in results for row in result.rows])
    mark_best(lines, metrics)
    masks = list(dict.fromkeys(result.masks for result in results))
    return Comparison(column, results[0].own().table.counted(), masks, metrics, lines)


def _tables(variant: Variant, column: Column) -> list[ScoreTable]:
    return [r.results[column].own().table for r in variant.finished if column in r.results]


def _cells(tables: Sequence[ScoreTable]) -> dict[str, Cell]:
    means = [table.means() for table in tables]
    metrics = dict.fromkeys(metric for mean in means for metric in mean)
    cells = {metric: cell_of(mean.get(metric) for mean in means) for metric in metrics}
    return {metric: cell for metric, cell in cells.items() if cell}


def _health(results: Sequence[Result]) -> dict[str, Cell]:
    cells = {name: cell_of(result.health.get(name) for result in results) for name in HEALTH}
    return {name: cell for name, cell in cells.items() if cell}


def _trivial_lines(groups: Groups, everywhere: Sequence[Groups]) -> list[Line]:
    """Rows without training, oracles first, named alike in every column."""
    lines = []
    for (label, num_slots, backbone), rows in groups.items():
        words = []
        if any(len({o[1] for o in found if o[0] == label}) > 1 for found in everywhere):
            words.append(f"K = {num_slots}")
        if any(len({o[2] for o in found if o[0] == label}) > 1 for found in everywhere):
            words.append(backbone)
        name = f"{label} ({', '.join(words)})" if words else label
        tables = [row.table for row in rows.values()]
        lines.append(Line(name, next(iter(rows.values())).kind, _cells(tables)))
    return sorted(lines, key=lambda line: line.kind == "trivial")


def _trivial_rows(column: Column, records: Sequence[Record]) -> Groups:
    """Rows without training by what they depend on, each seed once however many runs carry it."""
    found: Groups = {}
    for record in records:
        if result := record.results.get(column):
            for row in (row for row in result.rows if row.kind in ("trivial", "oracle")):
                origin = (row.label, result.num_slots, _backbone_of(row.label, record))
                found.setdefault(origin, {}).setdefault(record.config["seed"], row)
    return _distinct(found)


def _distinct(groups: Groups) -> Groups:
    """Rows that say the same whatever K or backbone, once; with the seeds of all of them."""
    kept: Groups = {}
    for origin, rows in groups.items():
        for other, known in kept.items():
            shared = rows.keys() & known.keys()
            if (
                origin[0] == other[0]
                and shared
                and all(rows[seed].table.rows == known[seed].table.rows for seed in shared)
            ):
                known.update(rows)
                break
        else:
            kept[origin] = dict(rows)
    return kept


def _backbone_of(label: str, record: Record) -> str:
    """The backbone a row depends on, if it depends on any."""
    if label not in (LABELS[name] for name in OF_THE_BACKBONE):
        return ""
    backbone = record.config.get("backbone") or {}
    return str(backbone.get("model") or str(backbone.get("_target_")).rpartition(".")[2])


def mark_best(lines: Sequence[Line], metrics: Sequence[str]) -> None:
    """The best of all rows, if the interval of its difference to the baseline excludes 0."""
    for metric in metrics:
        sign = -1 if metric in LESS_IS_BETTER else 1
        rivals = [line for line in lines if line.kind != "oracle" and metric in line.cells]
        if not rivals:
            continue
        best = max(rivals, key=lambda line: sign * line.cells[metric].mean)
        difference = best.differences.get(metric)
        if difference and difference.excludes_zero():
            best.bold.add(metric)
