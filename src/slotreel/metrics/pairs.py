"""J and F of proposals with the objects of a frame, each mask's boundary found once.

H W pixels, T frames, N objects, P proposals. Label maps and masks are NumPy arrays or tensors on
any device and are worked on there; scores are NumPy float64. Row p of a score table is proposal p,
row 0 a proposal that has no pixel.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slotreel.metrics.arrays import Pixels, as_tensors, in_steps
from slotreel.metrics.boundary import BOUND_TH, jaccard, tolerance_radius
from slotreel.metrics.edges import boundary_scores, find_edges, label_edges
from slotreel.metrics.functional import IGNORE, contingency, label_count

GROUP = 8  # proposals that may overlap share a uint8 map


def pair_scores(
    truth: Pixels,
    prediction: Pixels,
    num_objects: int,
    num_proposals: int,
    bound_th: float = BOUND_TH,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of all pairs of proposal and object, void removed from both sides.

    Args:
        truth: uint8 (H, W) or (T, H, W); 1 .. num_objects are objects, 255 void, other ids
            background.
        prediction: uint8 of the same shape; 1 .. num_proposals are proposals, 0 background.
        num_objects: N, at most 254.
        num_proposals: P, at most 255.
        bound_th: tolerance of F, see ``boundary.tolerance_radius``.

    Returns:
        J and F, float64 (P + 1, N) each, or (T, P + 1, N) for frames.

    Raises:
        TypeError: if a map is not uint8.
        ValueError: if the shapes differ or the prediction has an id above P.
    """
    one, other = as_tensors(truth, prediction)
    if one.ndim == 2:
        j, f = pair_scores(one[None], other[None], num_objects, num_proposals, bound_th)
        return j[0], f[0]
    radius = tolerance_radius(one.shape[-2], one.shape[-1], bound_th)
    steps = [
        _score_labels(ids, labels, num_objects, num_proposals, radius)
        for ids, labels in in_steps(one, other)
    ]
    return np.concatenate([j for j, _ in steps]), np.concatenate([f for _, f in steps])


def matched_scores(
    truth: Pixels,
    prediction: Pixels,
    num_objects: int,
    bound_th: float = BOUND_TH,
    void: Literal["background", "removed"] = "background",
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every object with the prediction of the same id, as in DAVIS semi-supervised.

    Args:
        truth: uint8 (H, W) or (T, H, W); 1 .. num_objects are objects, 255 void, other ids
            background.
        prediction: uint8 of the same shape with ids 0 .. num_objects.
        num_objects: N, at most 254.
        bound_th: tolerance of F, see ``boundary.tolerance_radius``.
        void: void pixels count as ``background``, so that predicting on them costs, or are
            ``removed`` from both sides.

    Returns:
        J and F, float64 (N,) each, or (T, N) for frames.

    Raises:
        TypeError: if a map is not uint8.
        ValueError: if the shapes differ or the prediction has an id above N.
    """
    one, other = as_tensors(truth, prediction)
    if void == "background":
        one = one * _seen(one)
    j, f = pair_scores(one, other, num_objects, num_objects, bound_th)
    same = np.arange(num_objects)
    return j[..., same + 1, same], f[..., same + 1, same]


def proposal_scores(
    truth: Pixels, masks: Pixels, num_objects: int, bound_th: float = BOUND_TH
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of masks that may overlap with the objects of one frame, void removed.

    Args:
        truth: uint8 (H, W); 1 .. num_objects are objects, 255 void, other ids background.
        masks: bool (P, H, W), any number of proposals.
        num_objects: N, at most 254.
        bound_th: tolerance of F, see ``boundary.tolerance_radius``.

    Returns:
        J and F, float64 (P + 1, N) each.

    Raises:
        TypeError: if the truth is not uint8.
        ValueError: if the masks are not bool (P, H, W) of the truth's size.
    """
    ids, proposals = as_tensors(truth, masks)
    if proposals.dtype != torch.bool or proposals.ndim != 3 or proposals.shape[1:] != ids.shape:
        raise ValueError(
            f"expected masks bool (P, H, W) of the truth's size {tuple(ids.shape)}, got "
            f"{proposals.dtype} {tuple(proposals.shape)}; resize scores to the size of the truth "
            "first and threshold them afterwards"
        )
    ids = _drop_unknown(ids, num_objects)[None]
    radius = tolerance_radius(ids.shape[-2], ids.shape[-1], bound_th)
    num_proposals = len(proposals)
    packed = _pack(proposals) * _seen(ids)
    found = contingency(ids.expand(packed.shape), packed, num_objects + 1, 1 << GROUP)
    members = np.arange(1 << GROUP)[:, None] >> np.arange(GROUP) & 1
    both = (found @ members).swapaxes(0, 1).reshape(num_objects + 1, -1)[:, :num_proposals]
    size_t = contingency(ids, torch.zeros_like(ids), num_objects + 1, 1)[0, :, 0]
    j = _region(np.pad(both, ((0, 0), (1, 0))), size_t)
    parts = (
        find_edges(packed[i : i + 1], slice(i * GROUP, min((i + 1) * GROUP, num_proposals)), radius)
        for i in range(len(packed))
    )
    objects = list(label_edges(ids, 1, min(label_count(ids) - 1, num_objects), radius))
    return j, boundary_scores(objects, parts, (1, num_proposals, num_objects))[0]


def _score_labels(
    truth: Tensor, prediction: Tensor, num_objects: int, num_proposals: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """``pair_scores`` of (t, H, W) label maps."""
    ids = _drop_unknown(truth, num_objects)
    counts = contingency(ids, prediction, num_objects + 1, num_proposals + 1)
    size_t = counts.sum(-1)
    counts[..., 0] = 0  # from here on column 0 stands for a mask without pixels
    proposals = prediction * _seen(ids)
    f = boundary_scores(
        list(label_edges(ids, 1, label_count(ids) - 1, radius)),
        label_edges(proposals, 1, int(proposals.max()), radius),
        (len(ids), num_proposals, num_objects),
    )
    return _region(counts, size_t), f


def _region(counts: np.ndarray, size_t: np.ndarray) -> np.ndarray:
    """J (..., P + 1, N) from shared pixels (..., N + 1, P + 1) and truth sizes (..., N + 1)."""
    either = size_t[..., None] + counts.sum(-2)[..., None, :] - counts
    return jaccard(counts, either)[..., 1:, :].swapaxes(-1, -2)


def _drop_unknown(truth: Tensor, num_objects: int) -> Tensor:
    """Truth with ids above N as background; void stays."""
    if label_count(truth) <= num_objects + 1:
        return truth
    return truth * ((truth <= num_objects) | (truth == IGNORE))


def _seen(truth: Tensor) -> Tensor:
    """0 at void, else 1: uint8 of the truth's shape. 255 + 1 wraps around to 0."""
    return (truth + 1).clamp(max=1)  # ten times faster than a comparison on the CPU


def _pack(masks: Tensor) -> Tensor:
    """Masks bool (P, H, W) as bits of maps uint8 (P / 8 rounded up, H, W)."""
    maps = torch.zeros(
        (-(-len(masks) // GROUP), *masks.shape[1:]), dtype=torch.uint8, device=masks.device
    )
    for i, mask in enumerate(masks.view(torch.uint8)):
        maps[i // GROUP] |= mask << (i % GROUP)
    return maps
