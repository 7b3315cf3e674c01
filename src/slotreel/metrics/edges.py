"""Boundaries of many masks at once: one mask per bit of an integer map.

H W pixels, T frames. A part is a run of up to 63 consecutive masks in one map, so that boundary and
dilation (``boundary.py``) run once per frame and part instead of once per pair of masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slotreel.metrics.arrays import find_nonzero, to_numpy
from slotreel.metrics.boundary import boundary_map, dilate, f_measure

# masks an integer holds; sign bits stay clear, and the narrowest type is the fastest
KINDS = ((8, torch.uint8), (15, torch.int16), (31, torch.int32), (63, torch.int64))
MOST = KINDS[-1][0]


class Edges(NamedTuple):
    """Boundaries of one part."""

    at: slice  # the part's masks among all masks of its side, n of them
    pixels: Tensor  # int64 (e,), where any boundary is, in the flattened map (T, H, W)
    lengths: list[int]  # of ``pixels`` in every frame, (T,)
    members: Tensor  # float64 (e, n), 1 where the pixel is on mask i's boundary
    near: Tensor  # map (T, H, W): boundaries dilated by the tolerance


def label_edges(labels: Tensor, first: int, last: int, radius: int) -> Iterator[Edges]:
    """Boundaries of the labels ``first`` .. ``last`` of label maps, in parts.

    Args:
        labels: uint8 (T, H, W).
        first: lowest label, mask 0 of the side.
        last: highest label; below ``first`` for no part at all.
        radius: tolerance in pixels.
    """
    for start in range(first, last + 1, MOST):
        count = min(MOST, last + 1 - start)
        kind = next(kind for most, kind in KINDS if count <= most)
        one = torch.ones((), dtype=kind, device=labels.device)
        # Labels below ``start`` wrap around to the top, and a shift past the last bit gives 0. Bits
        # past ``count`` are left to chance; nobody reads them.
        masks = one << (labels - start).to(kind)
        yield find_edges(masks, slice(start - first, start - first + count), radius)


def find_edges(masks: Tensor, at: slice, radius: int) -> Edges:
    """Boundaries of a map.

    Args:
        masks: map (T, H, W) with bit i = mask ``at.start + i``.
        at: which masks.
        radius: tolerance in pixels.
    """
    edges = boundary_map(masks)
    pixels = find_nonzero(edges)
    frame = pixels // (masks.shape[-2] * masks.shape[-1])
    lengths = torch.bincount(frame, minlength=len(masks)).tolist()
    members = _unpack(edges.reshape(-1)[pixels], at.stop - at.start)
    return Edges(at, pixels, lengths, members, _dilate_part(edges, pixels, radius))


def boundary_scores(
    objects: Sequence[Edges], proposals: Iterable[Edges], shape: tuple[int, int, int]
) -> np.ndarray:
    """F of all pairs of proposal and object.

    Args:
        objects: parts of the truth.
        proposals: parts of the prediction, looked at once each.
        shape: (T, P, N).

    Returns:
        float64 (T, P + 1, N); row 0 is a proposal without pixels.
    """
    num_frames, num_proposals, num_objects = shape
    hits_p, hits_t = np.zeros((2, num_frames, num_proposals + 1, num_objects))
    size_p, size_t = np.zeros_like(hits_p), np.zeros_like(hits_t)
    for o in objects:
        size_t[:, :, o.at] = _sizes(o)[:, None, :]
    for p in proposals:
        rows = slice(p.at.start + 1, p.at.stop + 1)
        size_p[:, rows] = _sizes(p)[:, :, None]
        for o in objects:
            hits_p[:, rows, o.at] = _shared(p, o)
            hits_t[:, rows, o.at] = _shared(o, p).swapaxes(1, 2)
    return f_measure(hits_p, size_p, hits_t, size_t)


def _dilate_part(edges: Tensor, pixels: Tensor, radius: int) -> Tensor:
    """Dilation of a map whose nonzero pixels are known: only the box around them is worked on."""
    near = torch.zeros_like(edges)
    if len(pixels):
        height, width = edges.shape[-2:]
        y, x = pixels // width % height, pixels % width
        top, bottom, left, right = torch.stack([y.min(), y.max(), x.min(), x.max()]).tolist()
        rows = slice(max(top - radius, 0), bottom + radius + 1)
        columns = slice(max(left - radius, 0), right + radius + 1)
        near[..., rows, columns] = dilate(edges[..., rows, columns], radius)
    return near


def _unpack(bits: Tensor, count: int) -> Tensor:
    """The lowest ``count`` bits of e integers: float64 (e, count) of 0 and 1."""
    shifts = torch.arange(count, dtype=bits.dtype, device=bits.device)
    return ((bits[:, None] >> shifts) & 1).double()


def _sizes(part: Edges) -> np.ndarray:
    """Boundary pixels of every mask: float64 (T, n)."""
    return to_numpy(torch.stack([x.sum(0) for x in part.members.split(part.lengths)]))


def _shared(one: Edges, other: Edges) -> np.ndarray:
    """Pixels of boundary i of one that lie near boundary j of the other: float64 (T, i, j)."""
    near = _unpack(other.near.reshape(-1)[one.pixels], other.at.stop - other.at.start)
    frames = zip(one.members.split(one.lengths), near.split(one.lengths), strict=True)
    return to_numpy(torch.stack([x.T @ y for x, y in frames]))
