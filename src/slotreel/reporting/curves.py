"""Logged numbers over steps: mean and spread over the seeds of a variant."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from slotreel.reporting.comparing import HEALTH, Comparison
from slotreel.reporting.records import Column, Record
from slotreel.reporting.variants import Variant, settings_of
from slotreel.score_text import HEADLINES
from slotreel.scores import COLUMNS

MOST_POINTS = 240  # a curve on a page shows no more


class Curve(NamedTuple):
    """One line of a chart; ``spread`` is 0 where there is one seed."""

    label: str
    style: int  # the same number looks the same in every chart
    steps: list[int]
    values: list[float]
    spread: list[float]


class Chart(NamedTuple):
    """Curves of one logged number, and level lines."""

    title: str
    curves: list[Curve]
    levels: dict[str, float]


def chart_of(title: str, key: str, groups: Sequence[tuple[str, int, Sequence[Record]]]) -> Chart:
    """Curves of a logged number, one for each group of runs that has it.

    Args:
        title: of the chart.
        key: as logged.
        groups: label, style and runs (seeds) of each curve.
    """
    curves = [_curve(label, style, key, records) for label, style, records in groups]
    return Chart(title, [curve for curve in curves if curve.steps], {})


def _curve(label: str, style: int, key: str, records: Sequence[Record]) -> Curve:
    """Mean at the steps that all seeds logged: no jump where one of them ends early."""
    seeds = [{n: row[key] for n, row in r.history.items() if key in row} for r in records]
    seeds = [points for points in seeds if points]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    finite = [n for n in steps if all(math.isfinite(points[n]) for points in seeds)]
    kept = thin(finite)
    values = [[points[n] for points in seeds] for n in kept]
    spread = [statistics.stdev(row) if len(row) > 1 else 0.0 for row in values]
    return Curve(label, style, kept, [statistics.fmean(row) for row in values], spread)


def thin(steps: Sequence[int]) -> list[int]:
    """At most ``MOST_POINTS`` of them, evenly, first and last included."""
    if len(steps) <= MOST_POINTS:
        return list(steps)
    last = MOST_POINTS - 1
    return [steps[round(i * (len(steps) - 1) / last)] for i in range(MOST_POINTS)]


def charts(
    variants: Sequence[Variant], comparisons: Sequence[Comparison], titles: Sequence[str]
) -> tuple[list[Chart], list[Chart]]:
    """Charts that every comparison needs, and the rest.

    A variant's curve is that of its finished runs, or of all while none is finished. Scores of
    another protocol or other videos stand in a chart of their own even under the same key.
    """
    groups = [
        (v.label if v.finished else f"{v.label} (unfinished)", n, v.finished or v.records)
        for n, v in enumerate(variants)
    ]
    main = [chart_of("train/loss", "train/loss", groups)]
    rest: list[Chart] = []
    for comparison, title in zip(comparisons, titles, strict=True):
        own = [(label, n, _of_column(r, comparison.column, variants)) for label, n, r in groups]
        prefix = f"val/{comparison.column.set}/{comparison.column.protocol}"
        for metric in comparison.metrics:
            name = f"{title} {COLUMNS.get(metric, metric)}"
            chart = chart_of(name, f"{prefix}/{metric}", own)
            level = comparison.best_trivial(metric)
            if level is not None:
                chart.levels["best row without training"] = level
            (main if metric in HEADLINES else rest).append(chart)
        for source in comparison.masks:
            for name in HEALTH:
                key = f"health/{comparison.column.set}/{source}/{name}"
                rest.append(chart_of(f"{title} {name} ({source})", key, own))
    training = dict.fromkeys(
        key for v in variants for r in v.records for row in r.history.values() for key in row
        if key.startswith(("train/loss/", "train/rec_r2", "train/contrast_top1", "train/lr/"))
    )  # fmt: skip
    rest += [chart_of(key, key, groups) for key in training]
    return [c for c in main if c.curves], [c for c in rest if c.curves]


def _of_column(
    records: Sequence[Record], column: Column, variants: Sequence[Variant]
) -> list[Record]:
    """Runs that validate as this column does; of unfinished ones their settings must say so."""
    known = [r for v in variants for r in v.finished if column in r.results]
    same = [_validation(record) for record in known]
    return [
        r for r in records if column in r.results or (not r.finished and _validation(r) in same)
    ]


def _validation(record: Record) -> dict[str, object]:
    """Settings that decide how and on what a run is validated."""
    parts = ("dataset.validation.", "validate.", "protocol.", "propagation.", "image_size")
    settings = settings_of(record.config)
    return {key: value for key, value in settings.items() if key.startswith(parts)}
