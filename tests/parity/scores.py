"""Scores of stored label maps beside those of the released evaluation (tests/data/README.md).

It computes means in float32, so its numbers carry seven digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np

from tests.metrics.clips import mean, run
from tests.parity.row import Row

STORED = Path(__file__).parents[1] / "data" / "metrics_golden.npz"
MEASURES = {"fg_ari": "ARI_fg", "ari": "ARI_all", "mbo": "IoU_overlap", "miou": "IoU_hungarian"}
SAMPLES = {"video": "Video", "frame": "Image"}
# What the clips hold -> our arguments, measures, and the reference's word for the classes counted.
KINDS = {
    "background is a class, IoU of objects": (
        {"empty_frame": "one"}, ("fg_ari", "ari", "mbo", "miou"), "_fg",
    ),
    "background is a class, IoU with it": ({"iou_background": "in"}, ("mbo", "miou"), "_all"),
    "objects overlap, the rest is unlabelled": (
        {"background": "none"}, ("ari", "mbo", "miou"), "_all",
    ),
}  # fmt: skip
Clip = tuple[np.ndarray, np.ndarray]


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(STORED) as file:
        return {name: file[name] for name in file.files}


def clips(overlapping: bool) -> Iterator[tuple[int, list[Clip]]]:
    """Cases with their pairs of truth and prediction (T, H, W); 255 where objects overlap."""
    data = stored()
    for case in range(len(data["slot_values"])):
        key = f"slot_{case:03d}_"
        truth, prediction = data[key + "gt"], data[key + "pred"]
        if (key + "gt_multi" in data) != overlapping:
            continue
        if overlapping:
            channels = data[key + "gt_multi"].astype(bool)
            ids = np.arange(1, channels.shape[2] + 1)[:, None, None]
            truth = (channels * ids).sum(2).astype(np.uint8)
            truth[channels.sum(2) > 1] = 255
        yield case, list(zip(truth, prediction, strict=True))


def ours(kind: str) -> list[float]:
    arguments, measures, _ = KINDS[kind]
    scored = [[run(*pair, **arguments) for pair in pairs] for _, pairs in clips("overlap" in kind)]
    return [
        mean(scores, f"{measure}_{sample}")
        for scores, measure, sample in product(scored, measures, SAMPLES)
    ]


def published(kind: str) -> list[float]:
    _, measures, classes = KINDS[kind]
    fields, values = list(stored()["slot_fields"]), stored()["slot_values"]
    names = [MEASURES[m] + (classes if "IoU" in MEASURES[m] else "") for m in measures]
    return [
        float(values[case][fields.index(SAMPLES[sample] + name)])
        for (case, _), name, sample in product(clips("overlap" in kind), names, SAMPLES)
    ]


def rows() -> list[Row]:
    """One row per kind of clip."""
    return [
        Row(
            "metrics.Segmentation",
            f"{', '.join(measures)} of videos and frames ({kind})",
            partial(published, kind),
            partial(ours, kind),
            1e-6,
        )
        for kind, (_, measures, _) in KINDS.items()
    ]
