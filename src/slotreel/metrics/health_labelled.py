"""Where slots fail, told by labels: over- and under-segmentation, lost identities, drift.

T frames, C truth classes with the background as class 0, K slots. Everything follows from one
table per clip: the pixels each class shares with each slot in a frame (``functional.contingency``).
Clips may differ in T and C. A number without a sample is NaN.

Differs: moving or static and occluded objects are not told apart; a table does not know where its
pixels are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from slotreel.metrics.functional import active_classes, adjusted_rand_index, pairwise_iou
from slotreel.metrics.health import defined, mean

OWNS = 0.1  # share of an object's pixels from which a slot owns it
NUMBERS = {"1": (1, 1), "2": (2, 2), "3to4": (3, 4), "5to7": (5, 7), "8up": (8, 255)}
SIZES = {"small": (0.0, 0.01), "medium": (0.01, 0.05), "large": (0.05, 2.0)}  # share of a frame
FRAMES = {"0": (0, 0), "1to3": (1, 3), "4to7": (4, 7), "8to15": (8, 15), "16up": (16, 10**9)}

Tables = Sequence[np.ndarray]


def labelled_health(tables: Tables, frames: Sequence[Sequence[int]]) -> dict[str, float]:
    """Every number that needs labels.

    Args:
        tables: per clip int64 (T, C, K), annotated frames only, in order.
        frames: per clip the position of each of these frames in the clip, from 0.

    Returns:
        Those that are defined of slots_per_object, objects_per_slot, background_leak,
        identity_cost, id_switches, same_slot_after_gap, and of
        ``fg_ari_{1,2,3to4,5to7,8up}_objects`` (videos with so many objects),
        ``fg_ari_frames_{0,1to3,4to7,8to15,16up}`` (frames at these positions) and
        ``mbo_{small,medium,large}`` (objects below 1 %, up to 5 %, above 5 % of a frame).
    """
    tables = [table for table in tables if len(table)]
    frames = [positions for positions in frames if len(positions)]
    by_number = {
        f"fg_ari_{name}_objects": fg_ari_by_number(tables, *bounds)
        for name, bounds in NUMBERS.items()
    }
    by_frame = {
        f"fg_ari_frames_{name}": fg_ari_by_frame(tables, frames, *bounds)
        for name, bounds in FRAMES.items()
    }
    by_size = {f"mbo_{name}": mbo_by_size(tables, *bounds) for name, bounds in SIZES.items()}
    values = {
        "slots_per_object": slots_per_object(tables),
        "objects_per_slot": objects_per_slot(tables),
        "background_leak": background_leak(tables),
        "identity_cost": identity_cost(tables),
        "id_switches": id_switches(tables),
        "same_slot_after_gap": same_slot_after_gap(tables),
    }
    return defined(values | by_number | by_frame | by_size)


def slots_per_object(tables: Tables) -> float:
    """How many slots own an object (at least 10 % of its pixels), mean over visible object-frames.

    1 is ideal; more is over-segmentation.
    """
    return mean(_owned(table).sum(-1)[active_classes(table[:, 1:])] for table in tables)


def objects_per_slot(tables: Tables) -> float:
    """How many objects a slot owns, mean over frames and slots that own one; above 1 they merge."""
    owned = [_owned(table).sum(-2) for table in tables]
    return mean(number[number > 0] for number in owned)


def background_leak(tables: Tables) -> float:
    """Share of a matched slot's pixels that lie on background, mean over matched object-frames.

    Matched: one-to-one by IoU in each frame, with an IoU above 0.
    """
    leaks = []
    for table in tables:
        shares = table[:, 0] / np.maximum(table.sum(1), 1)
        for t, partners in enumerate(_partners(table)):
            leaks.append(shares[t, partners[partners >= 0]])
    return mean(leaks)


def identity_cost(tables: Tables) -> float:
    """FG-ARI of frames minus FG-ARI of videos: what wrong identities cost; 0 is ideal.

    Means over frames and over videos that show an object.
    """
    return _fg_ari([frame for table in tables for frame in table]) - _fg_ari(_videos(tables))


def id_switches(tables: Tables) -> float:
    """Changes of the matched slot per visible object-frame.

    An object's slot (see ``background_leak``) is compared with the last one it was matched with,
    also across frames without a match and across gaps.
    """
    switches, visible = 0, 0
    for table in tables:
        visible += int(active_classes(table[:, 1:]).sum())
        for track in _partners(table).T:
            matched = track[track >= 0]
            switches += int((matched[1:] != matched[:-1]).sum())
    return switches / visible if visible else math.nan


def same_slot_after_gap(tables: Tables) -> float:
    """Share of re-entries after which an object has the slot it was matched with before.

    A re-entry is a visible frame after one or more frames without a pixel of the object; it counts
    if both sides of the gap are matched. NaN where nothing leaves and comes back.
    """
    same = []
    for table in tables:
        visible = active_classes(table[:, 1:])
        for seen, track in zip(visible.T, _partners(table).T, strict=True):
            for before, after in pairwise(np.flatnonzero(seen)):
                if after - before > 1 and track[before] >= 0 and track[after] >= 0:
                    same.append(float(track[before] == track[after]))
    return mean([np.asarray(same)])


def fg_ari_by_number(tables: Tables, lowest: int, highest: int) -> float:
    """FG-ARI of videos that show this many objects."""
    videos = _videos(tables)
    numbers = [int(active_classes(video[1:]).sum()) for video in videos]
    return _fg_ari([v for v, n in zip(videos, numbers, strict=True) if lowest <= n <= highest])


def fg_ari_by_frame(
    tables: Tables, frames: Sequence[Sequence[int]], first: int, last: int
) -> float:
    """FG-ARI of single frames at these positions of their clips."""
    pairs = [pair for clip in zip(tables, frames, strict=True) for pair in zip(*clip, strict=True)]
    return _fg_ari([frame for frame, position in pairs if first <= position <= last])


def mbo_by_size(tables: Tables, above: float, up_to: float) -> float:
    """Mean best overlap, over a whole video, of objects of a size: above < size <= up_to.

    Size is the mean share of the labelled pixels of the frames in which the object is visible.
    """
    values = []
    for table in tables:
        objects, video = table[:, 1:], table.sum(0)
        share = objects.sum(-1) / np.maximum(table.sum((1, 2)), 1)[:, None]
        size = _mean_over(share, active_classes(objects))
        best = pairwise_iou(video[1:], outside=video[0]).max(-1, initial=0.0)
        values.append(best[(size > above) & (size <= up_to)])
    return mean(values)


def _videos(tables: Tables) -> list[np.ndarray]:
    """Table (C, K) of each clip, all its frames together."""
    return [table.sum(0) for table in tables]


def _fg_ari(samples: Sequence[np.ndarray]) -> float:
    """Mean FG-ARI of those of the tables (C, K) that show an object."""
    score: Callable[[np.ndarray], np.ndarray] = adjusted_rand_index
    return mean([np.atleast_1d(score(table[1:])) for table in samples if table[1:].any()])


def _owned(table: np.ndarray) -> np.ndarray:
    """Which slot owns which object in which frame: bool (T, C - 1, K)."""
    objects = table[:, 1:]
    size = objects.sum(-1, keepdims=True)
    owned: np.ndarray = (size > 0) & (objects >= OWNS * size)
    return owned


def _partners(table: np.ndarray) -> np.ndarray:
    """Slot matched with each object in each frame: int64 (T, C - 1), -1 = none."""
    iou = pairwise_iou(table[:, 1:], outside=table[:, 0])
    partners = np.full(iou.shape[:2], -1)
    for t, pairs in enumerate(iou):
        objects, slots = linear_sum_assignment(pairs, maximize=True)
        found = pairs[objects, slots] > 0
        partners[t, objects[found]] = slots[found]
    return partners


def _mean_over(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what counts; NaN where nothing does."""
    with np.errstate(invalid="ignore"):
        average: np.ndarray = np.where(counted, values, 0).sum(0) / counted.sum(0)
    return average
