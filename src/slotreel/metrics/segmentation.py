"""ARI, FG-ARI, mBO and mIoU of hard label maps, per frame and per video, from streamed counts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from slotreel.metrics.arrays import Pixels
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
from slotreel.metrics.streamed import NOTHING, Row, StreamedMetric, check_option
from slotreel.types import MetricRow

SCORES = ("ari", "fg_ari", "mbo", "miou")


class Segmentation(StreamedMetric):
    """Scores of how a label map partitions a video into objects.

    | name | sample | truth classes | score |
    |---|---|---|---|
    | ari_video, ari_frame | video, frame | all labelled pixels | adjusted Rand index |
    | fg_ari_video, fg_ari_frame | video, frame | objects | adjusted Rand index |
    | fg_ari_video_multi | videos with two or more objects | objects | adjusted Rand index |
    | mbo_video, mbo_frame | video, frame | objects | IoU of the best slot |
    | miou_video, miou_frame | video, frame | objects | IoU under one-to-one assignment |

    A video sample is all its pixels at once, so identity switches cost. Every predicted label is a
    slot, 0 (dropped background) included: the background leaves the truth, never the prediction.
    Pixels whose truth is 255 count nowhere. Predicted pixels on background or unlabelled truth
    leave FG-ARI but enlarge the unions of mBO and mIoU. A frame or video without a class to score
    is no sample: the counts say how many there were.

    Source: metrics of SAVi (Kipf et al. 2022, arXiv:2111.12594, sec. 4) and SlotContrast (Manasyan
    et al. 2025, arXiv:2412.14295, sec. 4).
    Differs: with ``empty_frame="skip"``, the default, a frame or video without objects has no
    FG-ARI; the published code gives it 1 wherever background is a class (``empty_frame="one"``).

    Args:
        background: ``exists``: truth label 0 is a class, scored by ARI and deleted for FG-ARI.
            ``none``: label 0 means unlabelled; ARI equals FG-ARI, and a frame or video without
            objects is skipped in all scores.
        empty_frame: FG-ARI of a frame or video without objects: left out (``skip``) or 1 (``one``).
        iou_background: whether the background is one of the classes that mBO and mIoU average
            over: ``out`` as in slot papers, ``in`` as in ABO (average best overlap).

    Raises:
        ValueError: if an argument is none of its options, or ``background="none"`` is combined with
            ``empty_frame="one"`` or ``iou_background="in"``.
    """

    def __init__(
        self,
        *,
        background: Literal["exists", "none"] = "exists",
        empty_frame: Literal["skip", "one"] = "skip",
        iou_background: Literal["out", "in"] = "out",
    ) -> None:
        check_option("background", background, ("exists", "none"))
        check_option("empty_frame", empty_frame, ("skip", "one"))
        check_option("iou_background", iou_background, ("out", "in"))
        if (background, empty_frame) == ("none", "one"):
            raise ValueError(
                "empty_frame=one needs a background class to call empty frames solved, but "
                "background=none; try empty_frame=skip"
            )
        if (background, iou_background) == ("none", "in"):
            raise ValueError(
                "iou_background=in needs a background class, but background=none; "
                "try iou_background=out"
            )
        self.background = background
        self.empty_frame = empty_frame
        self.iou_background = iou_background

    def _reset(self) -> None:
        self._counts = np.zeros((IGNORE, 256), dtype=np.int64)  # (class, slot) pixels so far
        self._sums: dict[str, Row] = dict.fromkeys((f"{name}_frame" for name in SCORES), NOTHING)

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
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
        check_label_maps(prediction, truth, self._where(frame))
        num_classes, num_slots = max(label_count(truth), 1), int(prediction.max()) + 1
        counts = contingency(truth[None], prediction[None], num_classes, num_slots)[0]
        self._counts[:num_classes, :num_slots] += counts
        for name, (score, count) in self._score(counts).items():
            total, number = self._sums[f"{name}_frame"]
            self._sums[f"{name}_frame"] = (total + score, number + count)

    def _close(self) -> MetricRow:
        video = self._score(self._counts)
        several = int(active_classes(self._counts[1:]).sum()) >= 2
        return {
            **self._sums,
            **{f"{name}_video": row for name, row in video.items()},
            "fg_ari_video_multi": video["fg_ari"] if several else NOTHING,
        }

    def _score(self, counts: np.ndarray) -> dict[str, Row]:
        """(score, 1) of one sample by name, (0, 0) where it is none."""
        objects = counts[1:]
        labelled = counts if self.background == "exists" else objects
        seen, found = bool(labelled.any()), bool(objects.any())
        if self.iou_background == "in":
            iou, active = pairwise_iou(counts), active_classes(counts)
        else:
            iou, active = pairwise_iou(objects, outside=counts[0]), active_classes(objects)
        rows = dict.fromkeys(SCORES, NOTHING)
        if seen:
            rows["ari"] = (float(adjusted_rand_index(labelled)), 1.0)
        if found or (seen and self.empty_frame == "one"):
            rows["fg_ari"] = (float(adjusted_rand_index(objects)), 1.0)
        if active.any():
            rows["mbo"] = (float(best_overlap(iou, active)), 1.0)
            rows["miou"] = (float(hungarian_iou(iou, active)), 1.0)
        return rows
