"""Workloads measured in turn, beside what the device could do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slotreel.runtime.memory import peak_bytes
from slotreel.speed.borders import least_bytes
from slotreel.speed.ceilings import Ceilings, best_of, measure_ceilings
from slotreel.speed.counting import Cost, Counter
from slotreel.speed.timeline import Phase, Timeline, watched
from slotreel.speed.workload import Workload, arithmetic, loader_milliseconds

PARTS = ("backbone", "projector", "scan", "decoder", "losses", "optimizer")
DIRECTIONS = ("forward", "backward", "update")
Row = dict[str, Any]


def measure(
    workloads: Mapping[str, Workload], repeats: int, clock: str = "wall", warmup: int = 2
) -> list[Row]:
    """A result per workload, their steps made in turn: see ``docs/benchmarks.md`` for its keys.

    Args:
        workloads: by name.
        repeats: steps of each that are timed as a whole, and as many that are timed by part.
        clock: as in ``Timeline``.
        warmup: steps of each before that.
    """
    results = [_facts(name, work, clock) for name, work in workloads.items()]
    best: dict[str, Ceilings] = {}
    for work in workloads.values():
        for _ in range(warmup):
            work.step(Timeline(work.device, clock))
    whole: list[list[float]] = [[] for _ in results]
    phases: list[list[dict[Phase, float]]] = [[] for _ in results]
    for _ in range(repeats):
        for i, work in enumerate(workloads.values()):
            whole[i].append(sum(_time(work, clock, parts=False).values()))
        for i, work in enumerate(workloads.values()):
            phases[i].append(_time(work, clock, parts=True))
        for precision, found in _ceilings(workloads, clock).items():
            best[precision] = best_of(best.get(precision, found), found)
    for i, result in enumerate(results):
        _add_floors(result, best[result["precision"]])
        _add_times(result, phases[i], whole[i])
    return results


def _ceilings(workloads: Mapping[str, Workload], clock: str) -> dict[str, Ceilings]:
    """Ceilings by precision: workloads of the same one are judged by the same ceilings."""
    found = {}
    for work in workloads.values():
        precision = work.cfg.trainer.precision
        if precision not in found:
            with arithmetic(precision):
                found[precision] = measure_ceilings(work.device, precision, clock)
    return found


def ratio(one: Row, other: Row) -> Row:
    """Time of the second workload's step over that of the first, repeat by repeat."""
    quotients = np.array(other["step"]["all_ms"]) / np.array(one["step"]["all_ms"])
    low, median, high = np.quantile(quotients, (0.25, 0.5, 0.75)).tolist()
    return {"of": other["name"], "over": one["name"], "ratio": median, "q25": low, "q75": high}


def _facts(name: str, work: Workload, clock: str) -> Row:
    """What does not depend on the repeats: costs, memory, the loader."""
    out, peak = _peak_of(lambda: work.step(Timeline(work.device, clock)), work.device)
    costs, least = count(work), least_bytes(work)
    rows = [_row(phase, costs, least) for phase in _phases(costs, least)]
    loader = loader_milliseconds(work.cfg, work.objective, clock)
    return {
        "name": name,
        "precision": work.cfg.trainer.precision,
        "batch_size": work.cfg.trainer.batch_size,
        "loss": float(out.total.detach()),
        "parts": rows,
        "step": {key: sum(row[key] for row in rows) for key in ("flops", "traffic")},
        "loader_ms": loader if isinstance(loader, float) else None,
        "loader_missing": loader if isinstance(loader, str) else None,
        "peak_bytes": peak,
        "peak_of": "cuda" if work.device.type == "cuda" else "process",
    }


def count(work: Workload) -> dict[Phase, Cost]:
    """Operations of one step by phase."""
    timeline = Timeline(work.device)
    counter = Counter(timeline)
    with watched(work.objective.model, timeline), counter:
        work.step(timeline)
    return counter.costs


def _row(phase: Phase, costs: Mapping[Phase, Cost], least: Mapping[Phase, int]) -> Row:
    cost = costs.get(phase, Cost())
    return {
        **phase._asdict(),
        "flops": cost.flops,
        "traffic": cost.traffic,
        "least_bytes": least.get(phase, 0),
    }


def _phases(costs: Mapping[Phase, Cost], least: Mapping[Phase, int]) -> list[Phase]:
    def place(phase: Phase) -> tuple[int, int]:
        return PARTS.index(phase.part), DIRECTIONS.index(phase.direction)

    return sorted({*costs, *least}, key=place)


def _time(work: Workload, clock: str, parts: bool) -> dict[Phase, float]:
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)
    timeline = Timeline(work.device, clock)
    if not parts:
        work.step(timeline)
        return timeline.milliseconds()
    with watched(work.objective.model, timeline):
        work.step(timeline)
    return timeline.milliseconds()


def _add_floors(result: Row, ceilings: Ceilings) -> None:
    """A part takes at least as long as its arithmetic, and as what it must move, at best."""
    result["ceilings"] = ceilings._asdict()
    for row in result["parts"]:
        seconds = max(row["flops"] / ceilings.matmul, row["least_bytes"] / ceilings.copy)
        row["floor_ms"] = 1000 * seconds
    result["step"]["floor_ms"] = sum(row["floor_ms"] for row in result["parts"])


def _add_times(result: Row, phases: list[dict[Phase, float]], whole: list[float]) -> None:
    for row in result["parts"]:
        phase = Phase(row["part"], row["direction"])
        _spread(row, [times.get(phase, 0.0) for times in phases])
    _spread(result["step"], whole)
    result["step"]["all_ms"] = whole
    result["clips_s"] = result["batch_size"] * 1000 / result["step"]["ms"]


def _spread(row: Row, times: list[float]) -> None:
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    floor = row["floor_ms"]
    row |= {"ms": median, "q25": low, "q75": high, "ratio": median / floor if floor else None}


def _peak_of(work: Callable[[], Any], device: torch.device) -> tuple[Any, int]:
    """Result of ``work`` and the most bytes held meanwhile: see ``peak_bytes``.

    Where the kernel does not let a process forget its peak, it is that of the process so far.
    """
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        forget.write_text("5")  # the peak becomes what is held now
        result = work()
        lines = status.read_text().splitlines()
        (peak,) = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    except (OSError, ValueError):
        return work(), peak_bytes(device)
    return result, peak if device.type != "cuda" else peak_bytes(device)
