#!/usr/bin/env python
"""Time one training step of any configuration, part by part, beside what the device could do.

    python scripts/benchmark.py benchmark=slotcontrast_cpu
    python scripts/benchmark.py experiment=slotcontrast_movi_c backbone.weights=random --json FILE
    python scripts/benchmark.py benchmark=slotcontrast_cpu --compare "" benchmark.baseline=true

Overrides are those of ./train.py, and the group `benchmark` with workloads of known shape. With
--compare two sets of further overrides (each one word: quote it) are measured in turn, step by
step, in one process. Clips are noise; the data set is only read to time the loader.

What the numbers mean: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from benchmarking import CLOCKS, describe_machine
from rich.console import Console
from rich.table import Table

from slotreel.composing import compose_config
from slotreel.errors import UserError
from slotreel.files import write_text
from slotreel.runtime.distributed import World, choose_device
from slotreel.runtime.logging import errors_only
from slotreel.speed.measuring import measure, ratio
from slotreel.speed.workload import Workload


def workloads(options: argparse.Namespace) -> dict[str, Workload]:
    """One workload, or the two to compare, by what was typed for it."""
    found = {}
    for more in options.compare or [""]:
        cfg = compose_config("benchmark", [*options.overrides, *shlex.split(more)])
        if cfg.trainer.num_threads is not None:
            torch.set_num_threads(cfg.trainer.num_threads)
        device = choose_device(cfg.trainer.device, World())
        name = more or " ".join(options.overrides) or "default run"
        found[name] = Workload(cfg, device)
    return found


def table(result: dict[str, Any]) -> Table:
    """Parts and step of a workload."""
    shown = Table(title=result["name"], title_justify="left")
    for head in ("part", "", "GFLOP", "MB moved", "MB least", "ms", "quartiles", "floor", "ratio"):
        shown.add_column(head, justify="left" if head in ("part", "") else "right")
    step = result["step"] | {"part": "step", "direction": ""}
    for row in [*result["parts"], step]:
        least = f"{row['least_bytes'] / 1e6:.1f}" if "least_bytes" in row else ""
        shown.add_row(
            row["part"],
            row["direction"],
            f"{row['flops'] / 1e9:.3f}",
            f"{row['traffic'] / 1e6:.1f}",
            least,
            f"{row['ms']:.2f}",
            f"{row['q25']:.2f} - {row['q75']:.2f}",
            f"{row['floor_ms']:.2f}",
            "" if row["ratio"] is None else f"{row['ratio']:.1f}",
        )
    return shown


def summary(result: dict[str, Any]) -> str:
    """The rest of a workload's numbers in a few lines."""
    ceilings = result["ceilings"]
    loader = (
        f"not measured: {result['loader_missing']}"
        if result["loader_ms"] is None
        else f"{result['loader_ms']:.1f} ms per batch in one process"
    )
    return (
        f"ceilings: {ceilings['matmul'] / 1e9:.0f} GFLOP/s ({ceilings['dtype']}), "
        f"{ceilings['copy'] / 1e9:.1f} GB/s copied\n"
        f"{result['clips_s']:.2f} clips/s, peak {result['peak_bytes'] / 1e9:.2f} GB "
        f"({result['peak_of']}), loss of the first step {result['loss']:.6f}\n"
        f"loader: {loader}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as typed after ./train.py")
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="further overrides of each")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor time summed over threads, on a shared machine; not on a GPU",
    )
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    options = parser.parse_intermixed_args(arguments)
    try:
        with errors_only():  # random weights are meant here
            return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Measure, print and perhaps write."""
    found = workloads(options)
    device = next(iter(found.values())).device
    machine = describe_machine(str(device))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    results = measure(found, options.repeats, options.clock)
    console = Console(width=110)
    for result in results:
        console.print(table(result))
        print(summary(result))
    compared = ratio(*results) if options.compare else None
    if compared:
        print("{of} / {over}: {ratio:.2f} ({q25:.2f} - {q75:.2f})".format(**compared))
    if options.json:
        content = {
            "machine": machine,
            "overrides": options.overrides,
            "repeats": options.repeats,
            "clock": options.clock,
            "workloads": results,
            "compare": compared,
        }
        write_text(options.json, json.dumps(content, indent=1) + "\n")
        print(f"wrote {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
