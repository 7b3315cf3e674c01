"""J and F of every proposal with every object of a frame, each label's boundary found once.

H W pixels, N objects, P proposals. Labels become bits of one integer map, up to 64 in a map, so
that boundary and dilation (``boundary.py``) run once per frame and side instead of once per pair.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from slotreel.metrics.boundary import (
    BOUND_TH,
    boundary_map,
    dilate,
    f_measure,
    jaccard,
    tolerance_radius,
)
from slotreel.metrics.functional import IGNORE, contingency


class _Edges(NamedTuple):
    """Boundaries of up to 64 labels of one label map."""

    ids: np.ndarray  # int64 (n,), the labels; bit i belongs to ids[i]
    edges: np.ndarray  # map (H, W)
    near: np.ndarray  # map (H, W): edges dilated by the tolerance


def pair_scores(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_objects: int,
    num_proposals: int,
    bound_th: float = BOUND_TH,
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of all pairs of one frame, void removed from both sides.

    Args:
        truth: uint8 (H, W); 1 .. num_objects are objects, 255 void, other ids background.
        prediction: uint8 (H, W); 1 .. num_proposals are proposals, 0 background.
        num_objects: N, at most 254.
        num_proposals: P, at most 255.
        bound_th: tolerance of F, see ``boundary.tolerance_radius``.

    Returns:
        J and F, float64 (P + 1, N); row p is proposal p, row 0 a proposal that is empty here.

    Raises:
        ValueError: if the prediction has an id above P.
    """
    void = truth == IGNORE
    truth = np.where((truth > num_objects) & ~void, np.uint8(0), truth)
    counts = contingency(truth[None], prediction[None], num_objects + 1, num_proposals + 1)[0]
    slots, objects = counts.sum(0), counts.sum(1)
    counts[:, 0] = slots[0] = objects[0] = 0  # label 0 now stands for a mask without pixels
    either = slots[:, None] + objects - counts.T
    hits_p, hits_t = np.zeros((2, *either.shape), dtype=np.int64)
    size_p, size_t = np.zeros_like(slots), np.zeros_like(objects)
    radius = tolerance_radius(truth.shape[0], truth.shape[1], bound_th)
    of_slots = _find_edges(prediction, np.flatnonzero(slots), void, radius)
    of_objects = _find_edges(truth, np.flatnonzero(objects), void, radius)
    for part in of_slots:
        size_p[part.ids] = _bit_columns(part.edges[part.edges != 0], len(part.ids)).sum(0)
    for part in of_objects:
        size_t[part.ids] = _bit_columns(part.edges[part.edges != 0], len(part.ids)).sum(0)
    for p, t in product(of_slots, of_objects):
        hits_p[np.ix_(p.ids, t.ids)] = _shared(p, t)
        hits_t[np.ix_(p.ids, t.ids)] = _shared(t, p).T
    rows, columns = np.broadcast_arrays(size_p[:, None], size_t)
    f = f_measure(hits_p, rows, hits_t, columns)
    return jaccard(counts.T, either)[:, 1:], f[:, 1:]


def _find_edges(labels: np.ndarray, ids: np.ndarray, void: np.ndarray, radius: int) -> list[_Edges]:
    """Boundaries of the labels ``ids``, at most 64 at a time: the bits of the widest integer."""
    found = []
    for start in range(0, len(ids), 64):
        part = ids[start : start + 64]
        kinds = (np.uint8, np.uint16, np.uint32, np.uint64)
        kind = next(k for k in kinds if len(part) <= 8 * np.dtype(k).itemsize)
        bit_of = np.zeros(256, dtype=kind)
        bit_of[part] = np.left_shift(kind(1), np.arange(len(part), dtype=kind))
        masks = bit_of[labels]
        masks[void] = 0
        edges = boundary_map(masks)
        found.append(_Edges(part, edges, dilate(edges, radius)))
    return found


def _bit_columns(bits: np.ndarray, count: int) -> np.ndarray:
    """Unpack the lowest ``count`` bits of n integers: float64 (n, count) of 0 and 1."""
    shifts = np.arange(count, dtype=bits.dtype)
    columns: np.ndarray = (bits[:, None] >> shifts) & bits.dtype.type(1)
    return columns.astype(np.float64)


def _shared(one: _Edges, other: _Edges) -> np.ndarray:
    """Pixels of boundary i that lie near boundary j: int64 (labels of one, labels of other)."""
    at = one.edges != 0
    edges = _bit_columns(one.edges[at], len(one.ids))
    near = _bit_columns(other.near[at], len(other.ids))
    shared: np.ndarray = edges.T @ near
    return shared.astype(np.int64)
