"""Label maps written as digits, and the row that Segmentation makes of a clip."""

import numpy as np

from slotreel.metrics.segmentation import Segmentation
from slotreel.types import VideoInfo

VIDEO = VideoInfo("clip", 1, (3, 4))
NAMES = {
    "ari_video",
    "ari_frame",
    "fg_ari_video",
    "fg_ari_frame",
    "fg_ari_video_multi",
    "mbo_video",
    "mbo_frame",
    "miou_video",
    "miou_frame",
}


def labels(*frames: str) -> np.ndarray:
    return np.array([[list(row) for row in f.split("/")] for f in frames]).astype(np.uint8)


def run(truth, prediction, **arguments):
    metric = Segmentation(**arguments)
    metric.start(VIDEO)
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    row = metric.finish()
    assert set(row) == NAMES
    return row


def mean(rows, name):
    total, count = (sum(row[name][i] for row in rows) for i in (0, 1))
    return total / count if count else np.nan
