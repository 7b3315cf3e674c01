#!/usr/bin/env python
"""Time the metrics on one core beside plain implementations of the same scores.

    python scripts/benchmark_metrics.py [--repeats 15] [--device cuda] [--json FILE]

All ways of a case run in turn in one process, repeat after repeat, on one thread. Their values must
agree to 1e-6, else the exit status is 1. Each line gives the median and the quartiles of a way's
time, and the median over the repeats of its time divided by slotreel's.

The plain ways (`plain_metrics.py`), on the CPU unless said otherwise:
  OpenCV, per pair   for each pair of masks two boundary maps and two cv2.dilate with the exact disk
  np.bincount only   counts an int64 joint index that already exists; no checks, no scores
  joint + bincount   forms that index as uint8 (truth * K + prediction) and counts it; no scores
  one-hot, once      float32 one-hot masks of both sides, one einsum per video, then all scores
                     (runs on --device)
  one-hot, each      the same, with an einsum for each of ARI and mBO of frames and of videos
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from plain_metrics import (
    NUM_CLASSES,
    VOID,
    count_index,
    displace,
    ellipses,
    join,
    one_hot_scores,
    paint,
    plain_jf,
    plain_labels,
    table_scores,
)
from torch import Tensor

from slotreel.metrics.functional import contingency
from slotreel.metrics.pairs import matched_scores, pair_scores, proposal_scores

TOLERANCE = 1e-6


class Case(NamedTuple):
    """One comparison."""

    name: str
    parts: int  # frames or batches that a run handles
    ways: Mapping[str, Callable[[], np.ndarray | None]]  # slotreel first; None = nothing to compare


def stacked(scores: Callable[[], tuple[np.ndarray, np.ndarray]], first: int) -> np.ndarray:
    """J and F in one array, without the rows before ``first``."""
    return np.stack(scores())[..., first:, :]


def jf_cases(options: argparse.Namespace) -> list[Case]:
    """J&F of matched predictions, of all pairs of labels, and of masks that overlap."""
    rng = np.random.default_rng(0)
    height, width = options.size
    move = partial(torch.as_tensor, device=options.device)
    masks = ellipses(rng, 20, options.frames, (height, width))
    overlapping = ellipses(rng, options.proposals, 1, (height, width))[:, 0]
    cases = []

    def add(
        name: str, parts: int, ours: Callable[[], np.ndarray], plain: Callable[[], np.ndarray]
    ) -> None:
        ways = {"slotreel": ours, "OpenCV, per pair": plain}
        cases.append(Case(f"J&F, {name}, ms per frame", parts, ways))

    def scene(num_objects: int, num_proposals: int) -> tuple[np.ndarray, np.ndarray]:
        truth = paint(masks[:num_objects])
        truth[:, : height // 20] = VOID
        return truth, paint(displace(masks[:num_proposals]))

    truth, prediction = scene(3, 3)
    ours = partial(matched_scores, move(truth), move(prediction), 3)
    plain = partial(plain_labels, truth, prediction, 3, 3, matched=True)
    add("3 matched objects", options.frames, partial(stacked, ours, 0), plain)

    truth, prediction = scene(5, 20)
    ours = partial(pair_scores, move(truth), move(prediction), 5, 20)
    plain = partial(plain_labels, truth, prediction, 5, 20, matched=False)
    add("20 labels x 5 objects", options.frames, partial(stacked, ours, 1), plain)

    ours = partial(proposal_scores, move(truth[0]), move(overlapping), 5)
    objects = [truth[0] == i for i in range(1, 6)]
    plain = partial(plain_jf, objects, list(overlapping & (truth[0] != VOID)), matched=False)
    name = f"{options.proposals} overlapping x 5 objects"
    add(name, 1, partial(stacked, ours, 1), plain)
    return cases


def slot_scores(truth: Tensor, prediction: Tensor) -> np.ndarray:
    """ARI and mBO with and without background, of frames and of videos, from one count."""
    num_videos, num_frames = truth.shape[:2]
    frames = contingency(truth.flatten(0, 1), prediction.flatten(0, 1), NUM_CLASSES, NUM_CLASSES)
    videos = frames.reshape(num_videos, num_frames, NUM_CLASSES, NUM_CLASSES).sum(1)
    return np.concatenate([score for table in (frames, videos) for score in table_scores(table)])


def slot_case(options: argparse.Namespace) -> Case:
    """ARI and mBO of a batch of clips with eleven classes and slots."""
    rng = np.random.default_rng(1)
    num_videos, num_frames, height, width = options.clips
    videos = [ellipses(rng, 10, num_frames, (height, width)) for _ in range(num_videos)]
    names = rng.permutation(NUM_CLASSES).astype(np.uint8)
    truth = np.stack([paint(x) for x in videos])
    prediction = names[np.stack([paint(displace(x)) for x in videos])]
    index = join(truth, prediction).astype(np.int64)
    true, predicted = (torch.as_tensor(x, device=options.device) for x in (truth, prediction))
    ways: dict[str, Callable[[], np.ndarray | None]] = {
        "slotreel": partial(slot_scores, true, predicted),
        "np.bincount only": partial(count_index, lambda: index),
        "joint + bincount": partial(count_index, lambda: join(truth, prediction)),
        "one-hot, once": partial(one_hot_scores, true, predicted, 1),
        "one-hot, each": partial(one_hot_scores, true, predicted, 4),
    }
    shape = ",".join(map(str, options.clips))
    return Case(f"ARI and mBO, frames and videos, ms per batch ({shape})", 1, ways)


def difference(own: np.ndarray, other: np.ndarray) -> float:
    """Largest difference; NaN equals NaN and is infinitely far from a number."""
    apart = np.where(np.isnan(own) & np.isnan(other), 0.0, np.abs(own - other))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def measure(case: Case, repeats: int) -> tuple[list[dict[str, Any]], float]:
    """Run all ways in turn.

    Returns:
        A row per way, and the largest difference between slotreel's values and another way's.
    """
    values = [x for work in case.ways.values() if (x := work()) is not None]  # also warms up
    apart = max(difference(values[0], x) for x in values[1:])
    times = np.empty((repeats, len(case.ways)))
    for row in times:
        for i, work in enumerate(case.ways.values()):
            begin = time.perf_counter()
            work()
            row[i] = time.perf_counter() - begin
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
        "cpu": f"{cpu}, {os.cpu_count()} cores, 1 used",
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=4, help="frames of a J&F case")
    parser.add_argument("--proposals", type=int, default=100, help="masks that overlap")
    parser.add_argument(
        "--clips", type=int, nargs=4, default=(8, 24, 224, 224), metavar=("B", "T", "H", "W")
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="where slotreel and one-hot run")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    machine = describe_machine(options.device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    rows: list[dict[str, Any]] = []
    apart = 0.0
    for case in [*jf_cases(options), slot_case(options)]:
        found, distance = measure(case, options.repeats)
        rows += found
        apart = max(apart, distance)
        print(f"\n{case.name}: largest difference {distance:.1e}")
        for row in found:
            print("  {way:18} {ms:10.3f}  ({q25:.3f} - {q75:.3f})  x {ratio:.2f}".format(**row))
    if options.json:
        result = {"machine": machine, "repeats": options.repeats, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if not apart <= TOLERANCE:
        print(f"values differ by {apart:.1e}, more than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
