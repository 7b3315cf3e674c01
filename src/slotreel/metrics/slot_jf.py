"""The J and F that slot libraries call "VideoJandF". Not the DAVIS measure."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.optimize import linear_sum_assignment

from slotreel.metrics.arrays import Pixels, as_tensors, to_numpy
from slotreel.metrics.functional import (
    IGNORE,
    check_label_maps,
    contingency,
    label_count,
    pairwise_iou,
)
from slotreel.metrics.streamed import NOTHING, StreamedMetric
from slotreel.types import MetricRow

NAMES = ("slot_j", "slot_f", "slot_jf")
BAND = 0.02  # width of the boundary as a fraction of the diagonal


class SlotJF(StreamedMetric):
    """J and F as SlotContrast's library measures them: for comparison with it, never with DAVIS.

    | name | score of a video |
    |---|---|
    | slot_j, slot_f | mean of J, of F over all frames, then over the video's objects |
    | slot_jf | mean of the two |

    Every name counts videos with an object: (value, 1). Against the DAVIS measure (``JF``): a frame
    in which both masks are empty scores 0, not 1, so an object that is away half of the time cannot
    pass 0.5; the boundary is a band of ``max(1, round(0.02 diagonal))`` pixels inside the mask,
    the frame's edge included; F is the overlap of two such bands without tolerance; slots are
    assigned to objects once per video by (J + F) / 2; a set's score is a mean over videos. Objects
    are the ids of the truth in any frame. Label 0 of the prediction is a slot like the others.

    Source: the metrics of Manasyan et al. 2025 (SlotContrast), arXiv:2412.14295, and of the
    library it shares with VideoSAUR (Zadaianchuk et al. 2023, arXiv:2306.04829).
    Differs: pixels whose truth is 255 leave both sides; the original knows no such pixels.
    """

    def _reset(self) -> None:
        self._num_frames = 0
        self._j, self._f = np.zeros((2, IGNORE, 256))  # sums over frames per (class, slot)
        self._seen = np.zeros(IGNORE, dtype=bool)

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W); slot + 1, 0 = dropped background (one more slot).
            truth: uint8 (H, W); 0 background, 255 = ignore.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size.
        """
        check_label_maps(prediction, truth, self._where(frame))
        predicted, true = (to_numpy(x)[None] for x in as_tensors(prediction, truth))
        num_classes, num_slots = max(label_count(true), 1), int(predicted.max()) + 1
        counts = contingency(true, predicted, num_classes, num_slots)[0]
        void = true == IGNORE
        at_true, at_predicted = _boundary(true, void), _boundary(predicted, void)
        both = at_true & at_predicted
        hits = contingency(true[both][None], predicted[both][None], num_classes, num_slots)[0]
        size_t = np.bincount(true[at_true], minlength=num_classes)[:, None]
        size_p = np.bincount(predicted[at_predicted], minlength=num_slots)
        f = np.zeros(hits.shape)
        np.divide(2 * hits, size_t + size_p, out=f, where=size_t + size_p > 0)
        self._j[:num_classes, :num_slots] += pairwise_iou(counts)
        self._f[:num_classes, :num_slots] += f
        self._seen[:num_classes] |= counts.any(1)
        self._num_frames += 1

    def _close(self) -> MetricRow:
        found = np.flatnonzero(self._seen[1:]) + 1
        if not len(found):
            return dict.fromkeys(NAMES, NOTHING)
        j, f = self._j[found] / self._num_frames, self._f[found] / self._num_frames
        pairs = linear_sum_assignment(j + f, maximize=True)
        mean_j, mean_f = (float(x[pairs].sum()) / len(found) for x in (j, f))
        scores = (mean_j, mean_f, (mean_j + mean_f) / 2)
        return {name: (score, 1.0) for name, score in zip(NAMES, scores, strict=True)}


def _boundary(labels: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Pixels of each label that its erosion by a square takes away, all labels at once.

    A pixel survives if its whole window has its label; outside the frame nothing has.

    Args:
        labels: uint8 (1, H, W).
        void: bool (1, H, W), pixels of no label.

    Returns:
        bool (1, H, W).
    """
    named = np.where(void, -1, labels.astype(np.int16))
    reach = max(1, round(BAND * math.hypot(*labels.shape[1:])))
    window = (1, 2 * reach + 1, 2 * reach + 1)
    lowest = minimum_filter(named, window, mode="constant", cval=-1)
    highest = maximum_filter(named, window, mode="constant", cval=-1)
    edges: np.ndarray = (lowest != highest) & ~void
    return edges
