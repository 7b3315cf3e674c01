"""Whether slots work, from their masks alone: no labels, one number per symptom.

T frames, K slots, h w grid of the soft masks. Numbers are over a fixed set of clips, given as a
sequence with one entry per clip; clips may differ in T and grid, not in K. Means weigh all frames
(of all clips) the same. A slot is *alive* in a frame if it wins at least 0.5 % of the cells. What
is not defined (one slot, one frame, one clip, ...) is NaN; ``mask_health`` leaves it out.

No number says it all: slots bound to places keep their identity perfectly, and masks that are the
same everywhere agree perfectly. Read them together, beside a score or a trivial row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import label as connected
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotreel.metrics.functional import contingency, pairwise_iou

ALIVE = 0.005  # share of a frame's cells
PART = 3  # cells; smaller connected parts are ragged edges, not fragments


def winners(masks: Tensor) -> np.ndarray:
    """The slot with the largest mask in each cell, the first of equals.

    Args:
        masks: (T, K, h, w) soft masks, K at most 254.

    Returns:
        uint8 (T, h, w), slots from 0.
    """
    maps: np.ndarray = masks.argmax(1).to(torch.uint8).cpu().numpy()
    return maps


def mask_health(hard: Sequence[np.ndarray], num_slots: int) -> dict[str, float]:
    """Every number that follows from who wins which cell.

    Args:
        hard: per clip uint8 (T, h, w), slots from 0; see ``winners``.
        num_slots: K.

    Returns:
        Those of effective_slots, usage_entropy, dead_slots, always_dead, temporal_iou, switch_rate,
        place_bias and fragments that are defined.

    Raises:
        ValueError: if there is no clip, or a slot is not below K.
    """
    if not hard:
        raise ValueError("expected at least one clip, got none")
    usages = [usage(maps, num_slots) for maps in hard]
    values = {
        "effective_slots": effective_slots(usages),
        "usage_entropy": usage_entropy(usages),
        "dead_slots": dead_slots(usages),
        "always_dead": always_dead(usages),
        "temporal_iou": temporal_iou(hard, num_slots),
        "switch_rate": switch_rate(hard, num_slots),
        "place_bias": place_bias(hard, num_slots),
        "fragments": fragments(hard, num_slots),
    }
    return defined(values)


def defined(values: dict[str, float]) -> dict[str, float]:
    """The values that are numbers."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def mean(parts: Iterable[np.ndarray]) -> float:
    """Mean of everything in the arrays that is not NaN; NaN if that is nothing."""
    flat = [np.ravel(part).astype(np.float64) for part in parts]
    everything = np.concatenate(flat) if flat else np.empty(0)
    everything = everything[~np.isnan(everything)]
    return float(everything.mean()) if everything.size else math.nan


def usage(maps: np.ndarray, num_slots: int) -> np.ndarray:
    """Share of the cells that each slot wins.

    Args:
        maps: uint8 (T, h, w).
        num_slots: K.

    Returns:
        float64 (T, K); each frame sums to 1.
    """
    nowhere = np.zeros_like(maps)  # one class: the table's only row is the count per slot
    return contingency(nowhere, maps, 1, num_slots)[:, 0] / maps[0].size


def effective_slots(usages: Sequence[np.ndarray]) -> float:
    """How many slots are in use: exp of the entropy of the usage of a frame, mean over frames.

    1 = one slot wins all; K = all win the same. Compare with the number of objects plus one.
    """
    return mean(np.exp(_entropy(shares)) for shares in usages)


def usage_entropy(usages: Sequence[np.ndarray]) -> float:
    """Entropy of the usage of a frame over log K, mean over frames; NaN for one slot."""
    num_slots = usages[0].shape[-1]
    if num_slots == 1:
        return math.nan
    return mean(_entropy(shares) / math.log(num_slots) for shares in usages)


def dead_slots(usages: Sequence[np.ndarray]) -> float:
    """Share of the slots that are alive in no frame of a clip, mean over clips."""
    return mean(np.all(shares < ALIVE, axis=0) for shares in usages)


def always_dead(usages: Sequence[np.ndarray]) -> float:
    """Share of the slots that are alive in no frame of any clip."""
    return mean([np.all(np.concatenate(usages) < ALIVE, axis=0)])


def temporal_iou(hard: Sequence[np.ndarray], num_slots: int) -> float:
    """IoU of a slot's cells in successive frames, mean over slots alive in one of the two.

    1 = nothing moves. Slots bound to places, and one slot that has it all, come near it too. NaN
    where no clip has two frames.
    """
    return mean(_own_iou(maps[:-1], maps[1:], num_slots) for maps in hard if len(maps) > 1)


def switch_rate(hard: Sequence[np.ndarray], num_slots: int) -> float:
    """Share of the slots whose partner in the next frame has another index.

    Partners are the one-to-one assignment with the largest sum of IoU; equals go to the own index.
    A slot counts if it is alive and shares a cell with its partner. NaN where none does. Among
    few, large slots an object that jumps by more than its own size can pass for a switch.
    """
    switched = []
    for maps in hard:
        if len(maps) < 2:
            continue
        alive = usage(maps, num_slots) >= ALIVE
        for t, iou in enumerate(_overlaps(maps[:-1], maps[1:], num_slots)):
            slots, partners = _assign(iou)
            counts = alive[t, slots] & (iou[slots, partners] > 0)
            switched.append((slots != partners)[counts])
    return mean(switched)


def place_bias(hard: Sequence[np.ndarray], num_slots: int) -> float:
    """Mean IoU of first frames of two different clips, slots matched one-to-one, over all pairs.

    1 = every clip is cut the same way: by place, not by content. The mean is over all K slots; two
    slots without cells overlap by 0, so dead slots lower it (one slot that has it all: 1 / K).
    Pairs of different grids are left out; NaN where no pair remains.
    """
    first = [maps[:1] for maps in hard]
    pairs = [(a, b) for a, b in itertools.combinations(first, 2) if a.shape == b.shape]
    values = []
    for a, b in pairs:
        iou = _overlaps(a, b, num_slots)[0]
        values.append(iou[_assign(iou)])
    return mean(values)


def fragments(hard: Sequence[np.ndarray], num_slots: int) -> float:
    """Connected parts of at least 3 cells per alive slot, mean over slots and frames.

    Cells touch along an edge. 1 = one piece each; a slot of nothing but crumbs has 0.
    """
    numbers = []
    for maps in hard:
        for frame, slot in np.argwhere(usage(maps, num_slots) >= ALIVE):
            parts, _ = connected(maps[frame] == slot)
            numbers.append(np.count_nonzero(np.bincount(parts.ravel())[1:] >= PART))
    return mean([np.asarray(numbers)])


def agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """IoU of the cells that a slot wins in two sources of masks, e.g. grouper and decoder.

    Soft masks of the coarser grid are resized bilinearly to the finer one before they are cut.

    Args:
        first: per clip (T, K, h, w).
        second: the same clips and slots, on any grid.

    Returns:
        Mean over frames and slots that are alive in one of the two.
    """
    values = []
    for a, b in zip(first, second, strict=True):
        grid = max(a.shape[-2:], b.shape[-2:], key=math.prod)
        one, other = (winners(_resized(x, (grid[0], grid[1]))) for x in (a, b))
        values.append(_own_iou(one, other, a.shape[1]))
    return mean(values)


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Entropy (T,) in nats of shares (T, K)."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy: np.ndarray = -(shares * logs).sum(-1)
    return entropy


def _overlaps(first: np.ndarray, second: np.ndarray, num_slots: int) -> np.ndarray:
    """IoU (T, K, K) of every slot of one map with every slot of another."""
    return pairwise_iou(contingency(first, second, num_slots, num_slots))


def _own_iou(first: np.ndarray, second: np.ndarray, num_slots: int) -> np.ndarray:
    """IoU (T, K) of each slot with itself; NaN where it is alive in neither map."""
    iou = np.diagonal(_overlaps(first, second, num_slots), axis1=1, axis2=2)
    alive = np.maximum(usage(first, num_slots), usage(second, num_slots)) >= ALIVE
    return np.where(alive, iou, np.nan)


def _assign(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one partners with the largest sum; among equals the own index."""
    rows, columns = linear_sum_assignment(iou + 1e-9 * np.eye(len(iou)), maximize=True)
    return rows, columns


def _resized(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    if tuple(masks.shape[-2:]) == grid:
        return masks
    return F.interpolate(masks.float(), grid, mode="bilinear", align_corners=False)
