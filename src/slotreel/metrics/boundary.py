"""Region similarity J, boundary accuracy F and their statistics over a sequence, as in DAVIS.

H W pixels, T frames. Masks are NumPy arrays or tensors on any device and are worked on there;
scores are NumPy float64. A "map" below is either bool or an integer that carries one mask per bit:
xor and or act on all bits at once, so the boundaries of all labels of a frame and their dilations
cost as much as those of one mask.

Source: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation"; Pont-Tuset et al. 2017, arXiv:1704.00675; void as in the evaluation of the DAVIS
2019 unsupervised track, Caelles et al. 2019, arXiv:1905.00737.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from slotreel.metrics.arrays import Pixels, as_tensors, to_numpy

Map = TypeVar("Map", np.ndarray, Tensor)

BOUND_TH = 0.008  # tolerance of F as a fraction of the frame's diagonal


class Statistics(NamedTuple):
    """Summary of per-frame scores; float64 with the leading axes of the scores."""

    mean: np.ndarray
    recall: np.ndarray  # share of frames with a score above 0.5
    decay: np.ndarray  # first quarter minus last quarter; negative = better with time


def region_similarity(truth: Pixels, prediction: Pixels, void: Pixels | None = None) -> np.ndarray:
    """J: intersection over union of two masks outside void.

    Args:
        truth: bool (..., H, W).
        prediction: bool (..., H, W).
        void: bool (..., H, W), pixels that count for neither side.

    Returns:
        float64 (...); 1 where the union is empty.
    """
    one, other = _without_void(truth, prediction, void)
    return jaccard(_area(one & other), _area(one | other))


def tolerance_radius(height: int, width: int, bound_th: float = BOUND_TH) -> int:
    """How far, in pixels, two boundaries may lie apart and still agree.

    Args:
        height: H of the masks that are compared, in pixels.
        width: W likewise.
        bound_th: below 1 a fraction of the diagonal, rounded up; from 1 on whole pixels.

    Raises:
        ValueError: if ``bound_th`` is not positive, or above 1 and not whole.
    """
    if bound_th >= 1 and bound_th == int(bound_th):
        return int(bound_th)
    if not 0 < bound_th < 1:
        raise ValueError(
            f"bound_th={bound_th} is neither a fraction in (0, 1) nor a whole number of pixels; "
            f"try bound_th={BOUND_TH}"
        )
    return math.ceil(bound_th * math.sqrt(height * height + width * width))


def boundary_map(masks: Map) -> Map:
    """Pixels that differ from their right, lower or lower right neighbour.

    The frame's edge is no boundary: the last row looks right only, the last column down only, the
    corner at neither.

    Args:
        masks: map (..., H, W).

    Returns:
        map (..., H, W) of the same type.
    """
    if isinstance(masks, np.ndarray):
        return boundary_map(as_tensors(masks)[0]).numpy()
    edges = torch.zeros_like(masks)
    edges[..., :, :-1] = masks[..., :, :-1] ^ masks[..., :, 1:]
    edges[..., :-1, :] |= masks[..., :-1, :] ^ masks[..., 1:, :]
    edges[..., :-1, :-1] |= masks[..., :-1, :-1] ^ masks[..., 1:, 1:]
    return edges


def dilate(masks: Map, radius: int) -> Map:
    """Dilation with the Euclidean disk dy^2 + dx^2 <= radius^2; outside the frame is empty.

    Row by row of the disk from its tip to its middle: the rows only get longer, and a run of
    pixels up to twice as long is the union of two shifted copies of the last one. About 3 * radius
    shifts in all, exact for any map.

    Args:
        masks: map (..., H, W).
        radius: in pixels.

    Returns:
        map (..., H, W) of the same type.
    """
    if isinstance(masks, np.ndarray):
        return dilate(as_tensors(masks)[0], radius).numpy()
    height, width = masks.shape[-2:]
    runs, length = torch.nn.functional.pad(masks, (radius,) * 4), 1  # union of ``length`` pixels
    reached = torch.zeros_like(masks)
    for dy in range(radius, -1, -1):
        half = math.isqrt(radius * radius - dy * dy)
        while length <= 2 * half:
            step = min(length, 2 * half + 1 - length)
            runs = runs[..., :-step] | runs[..., step:]
            length += step
        x = radius - half
        for y in {radius - dy, radius + dy}:
            reached |= runs[..., y : y + height, x : x + width]
    return reached


def boundary_accuracy(
    truth: Pixels,
    prediction: Pixels,
    void: Pixels | None = None,
    bound_th: float = BOUND_TH,
) -> np.ndarray:
    """F: harmonic mean of boundary precision and recall within a tolerance.

    Differs: the official code dilates with skimage's disk; this one with shifts, same pixels.

    Args:
        truth: bool (..., H, W).
        prediction: bool (..., H, W).
        void: bool (..., H, W); void pixels are taken out of both masks before their boundaries.
        bound_th: see ``tolerance_radius``.

    Returns:
        float64 (...); 1 where neither mask has a boundary (a mask over the whole frame has none),
        0 where just one has.
    """
    one, other = _without_void(truth, prediction, void)
    radius = tolerance_radius(one.shape[-2], one.shape[-1], bound_th)
    edge_t, edge_p = boundary_map(one), boundary_map(other)
    return f_measure(
        _area(edge_p & dilate(edge_t, radius)),
        _area(edge_p),
        _area(edge_t & dilate(edge_p, radius)),
        _area(edge_t),
    )


def _without_void(truth: Pixels, prediction: Pixels, void: Pixels | None) -> tuple[Tensor, Tensor]:
    """Both masks as tensors on one device, void taken out."""
    if void is None:
        one, other = as_tensors(truth, prediction)
        return one, other
    one, other, hidden = as_tensors(truth, prediction, void)
    return one & ~hidden, other & ~hidden


def _area(masks: Tensor) -> np.ndarray:
    return to_numpy(masks.sum((-1, -2)))


def sequence_statistics(values: np.ndarray) -> Statistics:
    """Mean, recall and decay over the frames of a sequence.

    Differs: the official code rounds the quarters' edges into uint8, so its decay is NaN or wrong
    from 256 frames on. Here they are integers; up to 255 frames the numbers are the same.

    Args:
        values: float64 (..., T), fractions in [0, 1]; NaN frames leave the means.

    Raises:
        ValueError: if there is no frame.
    """
    num_frames = values.shape[-1]
    if num_frames == 0:
        raise ValueError("expected scores of at least one frame, got none; call update first")
    edges = [(k * (num_frames - 1) + 2) // 4 for k in range(5)]  # halves go up
    first, last = values[..., : edges[1] + 1], values[..., edges[3] : edges[4] + 1]
    recall = (values > 0.5).mean(-1)
    return Statistics(_nan_mean(values), recall, _nan_mean(first) - _nan_mean(last))


def _nan_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.asarray(np.where(known, values, 0.0).sum(-1))
    mean = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def jaccard(both: ArrayLike, either: ArrayLike) -> np.ndarray:
    """J from pixel counts of intersection and union, any shape; 1 where the union is empty."""
    union = np.asarray(either)
    score = np.ones(union.shape)
    np.divide(both, union, out=score, where=union > 0)
    return score


def f_measure(
    hits_p: np.ndarray, size_p: np.ndarray, hits_t: np.ndarray, size_t: np.ndarray
) -> np.ndarray:
    """F from counts of boundary pixels, all of one shape.

    Args:
        hits_p: boundary pixels of the prediction within the tolerance of the truth's boundary.
        size_p: boundary pixels of the prediction.
        hits_t: boundary pixels of the truth within the tolerance of the prediction's boundary.
        size_t: boundary pixels of the truth.
    """
    hits_p, size_p, hits_t, size_t = map(np.asarray, (hits_p, size_p, hits_t, size_t))
    precision = np.divide(hits_p, size_p, out=np.zeros(size_p.shape), where=size_p > 0)
    recall = np.divide(hits_t, size_t, out=np.zeros(size_t.shape), where=size_t > 0)
    total = precision + recall
    score = np.divide(2 * precision * recall, total, out=np.zeros(total.shape), where=total > 0)
    return np.where((size_p == 0) & (size_t == 0), 1.0, score)
