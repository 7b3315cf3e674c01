"""CorLoc and recall: are objects found at all, by box or by mask."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.ndimage import find_objects

from slotreel.metrics.arrays import Pixels, as_tensors, to_numpy
from slotreel.metrics.functional import (
    IGNORE,
    check_label_maps,
    contingency,
    label_count,
    pairwise_iou,
)
from slotreel.metrics.streamed import NOTHING, Row, StreamedMetric, check_option
from slotreel.types import MetricRow

HIT = 0.5  # an IoU has to be above this
NAMES = ("corloc", "corloc_mask", "recall")


class CorLoc(StreamedMetric):
    """Correct localisation in frames, every one on its own.

    | name | score of a frame |
    |---|---|
    | corloc | 1 if some predicted box has an IoU above 0.5 with some object's box, else 0 |
    | corloc_mask | the same with masks |
    | recall | share of objects whose box has an IoU above 0.5 with some predicted box |

    Every name counts frames with an object (id 1 to 254 in truth); others are left out. Boxes are
    the tightest around a label. Every predicted label has one, 0 (dropped background) included.
    Pixels whose truth is 255 belong to no mask and stretch no box.

    Source: Deselaers et al. 2010, as in the OCL framework (Seitzer et al. 2023, arXiv:2209.14860);
    evaluations in the style of LOST take one box per image and IoU of at least 0.5 instead.
    Differs: two boxes without area (``corners``, one pixel wide or high) have IoU 0, a miss, where
    the original divides 0 by 0.

    Args:
        boxes: how large the box of a mask w pixels wide and h high is: ``corners`` (w - 1)(h - 1),
            as in the OCL framework, or ``pixels`` w h.
        mask_background: whether the truth's background is a mask that ``corloc_mask`` may find:
            ``out``, or ``in`` as in the OCL framework; ``in`` makes nearly every frame a hit.

    Raises:
        ValueError: if an argument is none of its options.
    """

    def __init__(
        self,
        *,
        boxes: Literal["corners", "pixels"] = "corners",
        mask_background: Literal["out", "in"] = "out",
    ) -> None:
        check_option("boxes", boxes, ("corners", "pixels"))
        check_option("mask_background", mask_background, ("out", "in"))
        self.boxes = boxes
        self.mask_background = mask_background

    def _reset(self) -> None:
        self._sums: dict[str, Row] = dict.fromkeys(NAMES, NOTHING)

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W); slot + 1, 0 = dropped background.
            truth: uint8 (H, W); 0 background, 255 = ignore.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size.
        """
        check_label_maps(prediction, truth, self._where(frame))
        num_classes, num_slots = label_count(truth), int(prediction.max()) + 1
        if num_classes < 2:
            return
        counts = contingency(truth[None], prediction[None], num_classes, num_slots)[0]
        masks = pairwise_iou(counts)[0 if self.mask_background == "in" else 1 :]
        predicted, true = (to_numpy(x).astype(np.int16) for x in as_tensors(prediction, truth))
        void = true == IGNORE
        boxes = box_iou(
            tight_boxes(np.where(void, 0, true)),
            tight_boxes(np.where(void, 0, predicted + 1)),
            self.boxes,
        )
        best = boxes.max(1)
        scores = (float((best > HIT).any()), float((masks > HIT).any()), float((best > HIT).mean()))
        for name, score in zip(NAMES, scores, strict=True):
            total, count = self._sums[name]
            self._sums[name] = (total + score, count + 1.0)

    def _close(self) -> MetricRow:
        return dict(self._sums)


def tight_boxes(labels: np.ndarray) -> np.ndarray:
    """Tightest box around every label above 0 that occurs.

    Args:
        labels: integers (H, W).

    Returns:
        int64 (n, 4): first row, first column, last row, last column; by rising label.
    """
    found = [box for box in find_objects(labels) if box is not None]
    corners = [(rows.start, cols.start, rows.stop - 1, cols.stop - 1) for rows, cols in found]
    return np.array(corners, dtype=np.int64).reshape(-1, 4)


def box_iou(
    one: np.ndarray, other: np.ndarray, boxes: Literal["corners", "pixels"] = "corners"
) -> np.ndarray:
    """Intersection over union of boxes given by their first and last pixels.

    Args:
        one: integers (n, 4): top, left, bottom, right, corners included.
        other: integers (m, 4).
        boxes: ``corners``: sides are last - first; ``pixels``: one more.

    Returns:
        float64 (n, m); 0 where both boxes have no area.
    """
    extra = 1 if boxes == "pixels" else 0
    first = np.maximum(one[:, None, :2], other[None, :, :2])
    last = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (last - first + extra).clip(min=0).prod(-1)
    area_one, area_other = ((box[:, 2:] - box[:, :2] + extra).prod(-1) for box in (one, other))
    either = area_one[:, None] + area_other - both
    iou = np.zeros(both.shape)
    np.divide(both, either, out=iou, where=either > 0)
    return iou
