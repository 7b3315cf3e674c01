"""Part segmentation with named classes: one histogram over the whole set (VIP)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slotreel.metrics.arrays import Pixels, as_tensors
from slotreel.metrics.functional import IGNORE, check_label_maps, contingency
from slotreel.metrics.streamed import StreamedMetric
from slotreel.types import MetricRow


class HistogramScores(NamedTuple):
    """Scores of one histogram of true and predicted classes, fractions."""

    accuracy: float  # share of labelled pixels with the right class
    mean_accuracy: float  # mean over classes in the truth of their share of right pixels
    mean_iou: float  # mean over classes in truth or prediction
    weighted_iou: float  # IoU weighted by how frequent the class is in the truth


class PartIoU(StreamedMetric):
    """IoU and accuracy of classes, pixels of all frames of all videos in one histogram.

    | name | sum and count of a video | score of a set |
    |---|---|---|
    | mean_iou/class00, ... | pixels in both, in either | IoU of the class over the set |
    | mean_accuracy/class00, ... | right pixels, pixels in the truth | recall of the class |
    | accuracy | right pixels, labelled pixels | share of right pixels |

    The scores ``mean_iou`` and ``mean_accuracy`` are plain means over classes, background (class 0)
    included; a class that neither side has (for accuracy: the truth lacks) is left out. Nothing is
    averaged over frames or videos: a large frame weighs more. Truth outside the classes, 255
    included, counts nowhere. Labels are compared by number: the prediction says which class.

    Source: Zhou et al. 2018 (VIP), arXiv:1808.00661; rules of the evaluation that label
    propagation papers use, Jabri et al. 2020, arXiv:2006.14613.

    Args:
        num_classes: number of classes with the background; 20 in VIP.

    Raises:
        ValueError: if ``num_classes`` is not in 1 .. 255.
    """

    def __init__(self, *, num_classes: int = 20) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise ValueError(f"num_classes={num_classes} is not in 1..255; VIP has 20")
        self.num_classes = num_classes

    def _reset(self) -> None:
        self._histogram = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W), class of every pixel.
            truth: uint8 (H, W), classes likewise; other numbers = ignore.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size or a predicted label is no class.
        """
        where = self._where(frame)
        check_label_maps(prediction, truth, where)
        predicted, true = as_tensors(prediction, truth)
        highest = int(predicted.max())
        if highest >= self.num_classes:
            raise ValueError(
                f"{where}: expected predicted classes 0..{self.num_classes - 1}, got {highest}; "
                f"predict class numbers, or set num_classes={highest + 1}"
            )
        true = true.masked_fill(true >= self.num_classes, IGNORE)
        self._histogram += contingency(
            true[None], predicted[None], self.num_classes, self.num_classes
        )[0]

    def _close(self) -> MetricRow:
        right, in_truth, in_either = _class_counts(self._histogram)
        row: MetricRow = {}
        for name, counts in (("mean_iou", in_either), ("mean_accuracy", in_truth)):
            for c in range(self.num_classes):
                row[f"{name}/class{c:02d}"] = (float(right[c]), float(counts[c]))
        return {**row, "accuracy": (float(right.sum()), float(in_truth.sum()))}


def histogram_scores(histogram: np.ndarray) -> HistogramScores:
    """Scores of one histogram, e.g. the sum over a set of videos.

    Source: Long et al. 2015, arXiv:1411.4038, sec. 5.

    Args:
        histogram: integers (C, C), pixels of (true class, predicted class).

    Returns:
        Four fractions; NaN where there is no pixel.
    """
    right, in_truth, in_either = _class_counts(histogram)
    with np.errstate(invalid="ignore"):
        accuracy, iou = right / in_truth, right / in_either
    if not in_truth.any():
        return HistogramScores(*[float("nan")] * 4)
    weights = in_truth / in_truth.sum()
    return HistogramScores(
        float(right.sum() / in_truth.sum()),
        float(np.nanmean(accuracy)),
        float(np.nanmean(iou)),
        float((weights[weights > 0] * iou[weights > 0]).sum()),
    )


def _class_counts(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class (C,): pixels in both, in the truth, in either."""
    right, in_truth = np.diagonal(histogram), histogram.sum(1)
    return right, in_truth, in_truth + histogram.sum(0) - right
