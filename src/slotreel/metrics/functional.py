"""Clustering and overlap scores as pure functions of one contingency table.

Everything ARI, FG-ARI, mBO and mIoU need is how many points class c shares with slot k. Counting
that takes one ``bincount`` per frame; the scores are then sums over a few hundred integers.

Label maps are NumPy arrays or tensors on any device and are counted there. C truth classes (channel
0 may be background), K slots, T frames, n points. Tables are NumPy int64 with the axes (..., C, K);
a video's table is the sum of its frames' tables. Scores are NumPy float64.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotreel.metrics.arrays import Pixels, as_tensors, in_steps, to_numpy

IGNORE = 255  # truth label of pixels that belong to no class


def check_label_maps(prediction: Pixels, truth: Pixels, where: str) -> None:
    """Refuse anything but two uint8 label maps of one size.

    Args:
        prediction: what should be uint8 (H, W).
        truth: what should be uint8 (H, W).
        where: start of the message, e.g. ``video 'dog', frame 3``.

    Raises:
        TypeError: if either is not uint8.
        ValueError: if the two are not images of the same size.
    """
    if not (_is_uint8(prediction) and _is_uint8(truth)):
        raise TypeError(
            f"{where}: expected uint8 label maps, got prediction {prediction.dtype} and truth "
            f"{truth.dtype}; convert hard labels with labels.astype(np.uint8) or "
            "labels.to(torch.uint8)"
        )
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f"{where}: expected prediction and truth of one size (H, W), got prediction "
            f"{tuple(prediction.shape)} and truth {tuple(truth.shape)}; resize the soft masks to "
            "the size of the truth first and take the argmax afterwards"
        )


def label_count(labels: Pixels) -> int:
    """Highest label plus one, ``IGNORE`` not counted; 0 for nothing but ignored pixels.

    Args:
        labels: uint8, any shape.
    """
    (tensor,) = as_tensors(labels)
    return int((tensor + 1).max()) if tensor.numel() else 0  # 255 wraps around to 0


def joint_counts(truth: Pixels, prediction: Pixels, num_classes: int, num_slots: int) -> np.ndarray:
    """Pixels of every (class, slot) pair, per frame, ignored pixels in a last row of their own.

    Args:
        truth: uint8 (T, ...) labels 0 .. num_classes - 1, or 255 = ignore.
        prediction: uint8 (T, ...) labels 0 .. num_slots - 1, same shape.
        num_classes: C, at most 255.
        num_slots: K, at most 256.

    Returns:
        int64 (T, C + 1, K); row C holds the pixels whose truth is 255.

    Raises:
        TypeError: if a map is not uint8.
        ValueError: if the shapes differ or a label is out of range.
    """
    _check_batch(truth, prediction)
    classes, slots = as_tensors(truth, prediction)
    found = label_count(classes)
    if found > num_classes or num_classes > IGNORE:
        raise ValueError(
            f"num_classes={num_classes} does not cover truth labels 0..{found - 1} (255 = ignore, "
            f"so at most 255 classes); try num_classes={min(max(found, 1), IGNORE)}"
        )
    found = int(slots.max()) + 1 if slots.numel() else 0
    if found > num_slots:
        raise ValueError(
            f"num_slots={num_slots} does not cover predicted labels 0..{found - 1}; "
            f"try num_slots={found}"
        )
    shape = (num_classes + 1, num_slots)
    return np.concatenate([_count(a, b, shape) for a, b in in_steps(classes, slots)])


def _count(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> np.ndarray:
    """Pairs of labels uint8 (t, ...) counted frame by frame: int64 (t, rows, columns)."""
    num_frames, bins = len(rows), shape[0] * shape[1]
    kinds = (torch.uint8, torch.int16, torch.int32, torch.int64)
    kind = next(k for k in kinds if num_frames * bins <= torch.iinfo(k).max)  # bytes are the cost
    index = rows.clamp(max=shape[0] - 1).to(kind) * shape[1] + columns
    if num_frames > 1:
        first = torch.arange(num_frames, dtype=kind, device=index.device) * bins
        index += first.reshape(-1, *[1] * (index.ndim - 1))
    counts = torch.bincount(index.reshape(-1), minlength=num_frames * bins)
    return to_numpy(counts).reshape(num_frames, *shape)


def _is_uint8(labels: Pixels) -> bool:
    return labels.dtype in (np.uint8, torch.uint8)


def _check_batch(truth: Pixels, prediction: Pixels) -> None:
    if not (_is_uint8(truth) and _is_uint8(prediction)):
        raise TypeError(f"expected uint8 label maps, got {truth.dtype} and {prediction.dtype}")
    if truth.shape != prediction.shape:
        raise ValueError(
            f"expected truth and prediction of one shape (T, ...), got {tuple(truth.shape)} and "
            f"{tuple(prediction.shape)}; resize labels with nearest-neighbour interpolation only"
        )


def contingency(truth: Pixels, prediction: Pixels, num_classes: int, num_slots: int) -> np.ndarray:
    """Pixels of every (class, slot) pair, per frame; those with truth 255 count nowhere.

    Args:
        truth: uint8 (T, ...) labels 0 .. num_classes - 1, or 255 = ignore.
        prediction: uint8 (T, ...) labels 0 .. num_slots - 1, same shape.
        num_classes: C, at most 255.
        num_slots: K, at most 256.

    Returns:
        int64 (T, C, K).

    Raises:
        TypeError: if a map is not uint8.
        ValueError: if the shapes differ or a label is out of range.
    """
    counts: np.ndarray = joint_counts(truth, prediction, num_classes, num_slots)[:, :-1]
    return counts


def adjusted_rand_index(table: np.ndarray) -> np.ndarray:
    """Adjusted Rand index of contingency tables.

    Source: Hubert and Arabie 1985, eq. 5, with the permutation model of Rand's index; doubled
    pair counts N(N-1) throughout, which cancel. For FG-ARI pass ``table[..., 1:, :]``: the
    background leaves the truth, every slot stays.
    Differs: products are formed in float64. In int64 the product of two pair counts exceeds
    2^63 from about 1e5 points on; several public implementations overflow there.

    Args:
        table: integers (..., C, K).

    Returns:
        float64 (...), at most 1, about 0 for independent labels. 1 where both sides are one
        cluster, where every cluster has at most one point, and where no point is left.
    """
    counts = np.asarray(table, dtype=np.int64)
    rows, columns = counts.sum(-1), counts.sum(-2)
    total = rows.sum(-1)
    together = (counts * (counts - 1)).sum((-1, -2)).astype(np.float64)
    in_truth = (rows * (rows - 1)).sum(-1).astype(np.float64)
    in_slots = (columns * (columns - 1)).sum(-1).astype(np.float64)
    expected = in_truth * in_slots / np.maximum(total * (total - 1), 1).astype(np.float64)
    highest = (in_truth + in_slots) / 2
    score: np.ndarray = np.ones_like(expected)
    np.divide(together - expected, highest - expected, out=score, where=highest != expected)
    return score


def active_classes(table: np.ndarray) -> np.ndarray:
    """Which classes have at least one point.

    Args:
        table: integers (..., C, K).

    Returns:
        bool (..., C).
    """
    active: np.ndarray = np.asarray(table).sum(-1) > 0
    return active


def pairwise_iou(table: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of every class mask with every slot mask.

    A slot's mask is all it predicts outside ignored pixels. What it predicts on points of no row
    (deleted background, unlabelled pixels) meets no class but enlarges the union; the table does
    not hold these points, so pass their number as ``outside``. Ignored pixels (truth 255) leave
    truth and prediction alike, as overlapping truth does in SlotContrast's metrics.

    Args:
        table: integers (..., C, K).
        outside: integers (..., K), pixels of each slot that are in no row; none by default.

    Returns:
        float64 (..., C, K); 0 where the union is empty.
    """
    counts = np.asarray(table, dtype=np.int64)
    slots = counts.sum(-2)
    if outside is not None:
        slots = slots + np.asarray(outside, dtype=np.int64)
    union = counts.sum(-1)[..., :, None] + slots[..., None, :] - counts
    iou = np.zeros(counts.shape, dtype=np.float64)
    np.divide(counts, union, out=iou, where=union > 0)
    return iou


def best_overlap(iou: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Mean best overlap: mean over active classes of the best slot's IoU; slots may be reused.

    Args:
        iou: float64 (..., C, K).
        active: bool (..., C); the other classes are left out of the mean.

    Returns:
        float64 (...); NaN where no class is active: such a sample has no score.
    """
    best = np.where(active, iou.max(-1, initial=0.0), 0.0)
    return _mean_over_active(best.sum(-1), active)


def hungarian_iou(iou: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Mean IoU under the one-to-one assignment of slots to classes with the largest sum.

    All classes take part; a class without points has IoU 0 with every slot. With fewer slots
    than classes, classes left over score 0.

    Args:
        iou: float64 (..., C, K).
        active: bool (..., C); the other classes are left out of the mean.

    Returns:
        float64 (...); NaN where no class is active: such a sample has no score.
    """
    lead = iou.shape[:-2]
    pairs = np.where(active[..., None], iou, 0.0).reshape(-1, *iou.shape[-2:])
    matched = [pair[linear_sum_assignment(pair, maximize=True)].sum() for pair in pairs]
    return _mean_over_active(np.asarray(matched, dtype=np.float64).reshape(lead), active)


def _mean_over_active(total: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Divide by the number of active classes, NaN where there is none."""
    count = np.asarray(active.sum(-1))
    mean = np.full(count.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
