"""What variants cost: time, memory, parameters."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from slotreel.reporting.comparing import Cell, cell_of
from slotreel.reporting.records import Record
from slotreel.reporting.variants import Variant


def hours(record: Record) -> float | None:
    """Hours of training without validation, over all processes a run was resumed by.

    From the milliseconds per step that were logged, each for the steps since the row before.
    """
    total, last = 0.0, 0
    for step, values in record.history.items():
        if "perf/step_ms" in values:
            total += values["perf/step_ms"] * (step - last)
            last = step
    return total / 3.6e6 if last else None


def clips_per_second(record: Record) -> float | None:
    """Median over the run; the first rows hold the start."""
    rates = [v["perf/clips_s"] for v in record.history.values() if "perf/clips_s" in v]
    return statistics.median(rates) if rates else None


def _fact(name: str) -> Callable[[Record], float | None]:
    def read(record: Record) -> float | None:
        value = record.facts.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    return read


COSTS: dict[str, tuple[str, str, Callable[[Record], float | None]]] = {
    # key of the CSV: heading, format, value
    "trainable_parameters": ("trainable parameters", ",.0f", _fact("trainable_parameters")),
    "hours": ("training hours", ".3g", hours),
    "wall_minutes": ("wall minutes", ".1f", _fact("wall_minutes")),
    "cpu_minutes": ("CPU minutes", ".1f", _fact("cpu_minutes")),
    "peak_gb": ("peak GB", ".2f", _fact("peak_gb")),
    "clips_s": ("clips/s", ".1f", clips_per_second),
}
IN_TABLES = ("trainable_parameters", "hours", "peak_gb", "clips_s")  # of a paper
EXPLAINED = (
    "Training hours come from the logged time of each step: validation is left out, resumed parts "
    "count. Wall and CPU minutes are those of the process that finished the run. Peak GB is memory "
    "of the GPU, without one of the process. Clips per second: median over the run."
)


def costs_of(variant: Variant) -> dict[str, Cell]:
    """Means over the seeds of a variant."""
    cells = {key: cell_of(map(read, variant.finished)) for key, (_, _, read) in COSTS.items()}
    return {key: cell for key, cell in cells.items() if cell}


def show_cost(key: str, cell: Cell | None) -> str:
    """As text; a dash where nothing is known."""
    return format(cell.mean, COSTS[key][1]) if cell else "-"
