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
import sys
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from benchmarking import Case, add_options, report
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
    add_options(parser, repeats=15)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cases = [*jf_cases(options), slot_case(options)]
    return report(cases, options, TOLERANCE, {"opencv": cv2.__version__})


if __name__ == "__main__":
    sys.exit(main())
