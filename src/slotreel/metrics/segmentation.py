"""ARI, FG-ARI, mBO and mIoU of hard label maps, per frame and per video, from streamed counts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from slotreel.interfaces import Metric
from slotreel.metrics.functional import (
    IGNORE,
    active_classes,
    adjusted_rand_index,
    best_overlap,
    check_label_maps,
    contingency,
    hungarian_iou,
    label_count,
    pairwise_iou,
)
from slotreel.types import MetricRow, VideoInfo

FRAME_SCORES = ("ari_frame", "fg_ari_frame", "mbo_frame")


class Segmentation(Metric):
    """Scores of how a label map partitions a video into objects.

    | name | sample | truth classes | score |
    |---|---|---|---|
    | ari_video, ari_frame | video, frame | all labelled pixels | adjusted Rand index |
    | fg_ari_video, fg_ari_frame | video, frame | objects | adjusted Rand index |
    | fg_ari_video_multi | videos with two or more objects | objects | adjusted Rand index |
    | mbo_video, mbo_frame | video, frame | objects | IoU of the best slot |
    | miou_video | video | objects | IoU under one-to-one assignment |

    A video sample is all its pixels at once, so identity switches cost. Every predicted label is a
    slot, 0 (dropped background) included: the background leaves the truth, never the prediction.
    Pixels whose truth is 255 count nowhere. Predicted pixels on background or unlabelled truth
    leave FG-ARI but enlarge the unions of mBO and mIoU.

    Source: metrics of SAVi (Kipf et al. 2022, arXiv:2111.12594, sec. 4) and SlotContrast (Manasyan
    et al. 2025, arXiv:2412.14295, sec. 4).
    Differs: with ``empty_frame="skip"``, the default, a frame or video without objects has no
    FG-ARI; the published code gives it 1 wherever background is a class (``empty_frame="one"``).

    Args:
        background: ``exists``: truth label 0 is a class, scored by ARI, deleted for FG-ARI, mBO
            and mIoU. ``none``: label 0 means unlabelled; ARI equals FG-ARI, and a frame or video
            without objects is skipped in all scores.
        empty_frame: FG-ARI of a frame or video without objects: left out (``skip``) or 1 (``one``).

    Raises:
        ValueError: if an argument is none of its options, or ``empty_frame="one"`` is combined with
            ``background="none"``.
    """

    def __init__(
        self,
        *,
        background: Literal["exists", "none"] = "exists",
        empty_frame: Literal["skip", "one"] = "skip",
    ) -> None:
        if background not in ("exists", "none"):
            raise ValueError(f"background={background} is unknown; choose exists or none")
        if empty_frame not in ("skip", "one"):
            raise ValueError(f"empty_frame={empty_frame} is unknown; choose skip or one")
        if (background, empty_frame) == ("none", "one"):
            raise ValueError(
                "empty_frame=one needs a background class to call empty frames solved, but "
                "background=none; try empty_frame=skip"
            )
        self.background_exists = background == "exists"
        self.empty_counts = empty_frame == "one"
        self._name: str | None = None

    def start(self, video: VideoInfo) -> None:
        """Forget the previous video."""
        self._name = video.id
        self._counts = np.zeros((IGNORE, 256), dtype=np.int64)  # (class, slot) pixels so far
        self._sums = {name: (0.0, 0.0) for name in FRAME_SCORES}

    def update(self, prediction: np.ndarray, truth: np.ndarray, frame: int) -> None:
        """Add one frame.

        Args:
            prediction: uint8 (H, W); slot + 1, 0 = dropped background (one more slot).
            truth: uint8 (H, W); 0 background or unlabelled, 255 = ignore.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size.
        """
        if self._name is None:
            raise RuntimeError("update() before start(video); call start once per video")
        check_label_maps(prediction, truth, f"video {self._name!r}, frame {frame}")
        num_classes, num_slots = max(label_count(truth), 1), int(prediction.max(initial=0)) + 1
        counts = contingency(truth[None], prediction[None], num_classes, num_slots)[0]
        self._counts[:num_classes, :num_slots] += counts
        ari, fg_ari, iou, active = self._score(counts)
        mbo = float(best_overlap(iou, active)) if active.any() else None
        for name, score in zip(FRAME_SCORES, (ari, fg_ari, mbo), strict=True):
            if score is not None:
                total, count = self._sums[name]
                self._sums[name] = (total + score, count + 1.0)

    def finish(self) -> MetricRow:
        """Close the video.

        Returns:
            (sum, count) per name; the count is the number of frames or, for a video score, 0 or 1.

        Raises:
            RuntimeError: if no video was started.
        """
        if self._name is None:
            raise RuntimeError("finish() before start(video); call start once per video")
        self._name = None
        ari, fg_ari, iou, active = self._score(self._counts)
        scored = bool(active.any())
        return self._sums | {
            "ari_video": _row(ari),
            "fg_ari_video": _row(fg_ari),
            "fg_ari_video_multi": _row(fg_ari if int(active.sum()) >= 2 else None),
            "mbo_video": _row(float(best_overlap(iou, active)) if scored else None),
            "miou_video": _row(float(hungarian_iou(iou, active)) if scored else None),
        }

    def _score(
        self, counts: np.ndarray
    ) -> tuple[float | None, float | None, np.ndarray, np.ndarray]:
        """ARI and FG-ARI of one sample (None = no sample), object IoUs and which objects exist."""
        labelled, objects = counts if self.background_exists else counts[1:], counts[1:]
        seen = bool(labelled.any())
        active = active_classes(objects)
        has_score = bool(active.any()) or (self.empty_counts and seen)
        return (
            float(adjusted_rand_index(labelled)) if seen else None,
            float(adjusted_rand_index(objects)) if has_score else None,
            pairwise_iou(objects, outside=counts[0]),
            active,
        )


def _row(score: float | None) -> tuple[float, float]:
    return (0.0, 0.0) if score is None else (score, 1.0)
