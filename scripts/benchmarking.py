"""What the benchmarks share: ways run in turn, values compared, times reported."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from slotreel.speed.timeline import CLOCKS


class Case(NamedTuple):
    """One comparison."""

    name: str
    parts: int  # frames or batches that a run handles
    ways: Mapping[str, Callable[[], np.ndarray | None]]  # slotreel first; None = nothing to compare


def difference(own: np.ndarray, other: np.ndarray) -> float:
    """Largest difference; NaN equals NaN and is infinitely far from a number."""
    apart = np.where(np.isnan(own) & np.isnan(other), 0.0, np.abs(own - other))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def measure(case: Case, repeats: int, clock: str = "wall") -> tuple[list[dict[str, Any]], float]:
    """Run all ways in turn.

    Returns:
        A row per way, and the largest difference between slotreel's values and another way's.
    """
    values = [x for work in case.ways.values() if (x := work()) is not None]  # also warms up
    apart = max(difference(values[0], x) for x in values[1:])
    times = np.empty((repeats, len(case.ways)))
    for row in times:
        for i, work in enumerate(case.ways.values()):
            begin = CLOCKS[clock]()
            work()
            row[i] = CLOCKS[clock]() - begin
    times *= 1000 / case.parts
    rows = []
    for name, own in zip(case.ways, times.T, strict=True):
        low, median, high = np.quantile(own, (0.25, 0.5, 0.75)).tolist()
        ratio = float(np.median(own / times[:, 0]))
        rows.append(
            {"case": case.name, "way": name, "ms": median, "q25": low, "q75": high, "ratio": ratio}
        )
    return rows, apart


def describe_machine(device: str) -> dict[str, Any]:
    """What the numbers belong to."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = lines[0].split(":")[1].strip() if lines else cpu
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def add_options(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Arguments every benchmark has."""
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--device", default="cpu", help="where torch runs")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor time, on a shared machine"
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")


def report(
    cases: Iterable[Case],
    options: argparse.Namespace,
    tolerance: float,
    versions: Mapping[str, str],
) -> int:
    """Measure, print and perhaps write all cases; the exit status is 1 if values differ."""
    machine = describe_machine(options.device) | dict(versions)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    rows: list[dict[str, Any]] = []
    apart = 0.0
    for case in cases:
        found, distance = measure(case, options.repeats, options.clock)
        rows += found
        apart = max(apart, distance)
        print(f"\n{case.name}: largest difference {distance:.1e}")
        for row in found:
            print("  {way:18} {ms:10.3f}  ({q25:.3f} - {q75:.3f})  x {ratio:.2f}".format(**row))
    if options.json:
        result = {
            "machine": machine,
            "repeats": options.repeats,
            "clock": options.clock,
            "rows": rows,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if not apart <= tolerance:
        print(f"values differ by {apart:.1e}, more than {tolerance:.0e}", file=sys.stderr)
        return 1
    return 0
