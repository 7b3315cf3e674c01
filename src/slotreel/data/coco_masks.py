"""Masks as the COCO annotation format stores them: runs of pixels, or polygons."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from slotreel.data.image_io import IGNORE

MAX_OBJECTS = IGNORE - 1
Size = tuple[int, int]


class Runs(NamedTuple):
    """A mask as lengths of runs down the columns, outside and inside in turn."""

    size: Size
    counts: array[int] | bytes  # as numbers, or in the format's text form


Polygons = tuple["array[float]", ...]  # x y x y ... of each part, pixels


def compact(segmentation: Any) -> Runs | Polygons:
    """A mask just parsed, its numbers in arrays.

    Raises:
        ValueError: it is neither runs nor polygons.
    """
    try:
        if isinstance(segmentation, dict):
            (height, width), counts = segmentation["size"], segmentation["counts"]
            packed = counts.encode() if isinstance(counts, str) else array("I", counts)
            return Runs((height, width), packed)
        return tuple(array("d", polygon) for polygon in segmentation)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            'a segmentation is neither {"counts": ..., "size": [H, W]} nor a list of polygons '
            f"[x, y, x, y, ...]: {error!r}"
        ) from error


def pack(mask: Any, size: Size) -> bytes:
    """A mask of a frame in the text form of runs, which takes the least memory.

    Polygons are filled by ``pycocotools``, whose result defines the format; one that lies far
    outside, which would keep it busy for ever, is refused.

    Args:
        mask: as parsed, or from ``compact``.
        size: (H, W) of the frame.

    Raises:
        ValueError: this is no mask, it is of another size, or a polygon leaves the frame.
    """
    from pycocotools import mask as coco  # here, because other data sets do without it

    if not isinstance(mask, tuple):
        mask = compact(mask)
    if isinstance(mask, Runs):
        if mask.size != size:
            raise ValueError(f"the mask is {mask.size[0]} x {mask.size[1]}: expected the size of "
                             f"the frame, {size[0]} x {size[1]}")  # fmt: skip
        if isinstance(mask.counts, bytes):
            return mask.counts
        if sum(mask.counts) != math.prod(size):
            raise _wrong_sum(sum(mask.counts), size)
        return coco.frPyObjects({"counts": mask.counts, "size": size}, *size)["counts"]
    for polygon in mask:
        _check_polygon(polygon, size)
    if not mask:
        raise ValueError("there is no polygon")
    return coco.merge(coco.frPyObjects([list(polygon) for polygon in mask], *size))["counts"]


def _check_polygon(polygon: Sequence[float], size: Size) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers: expected x y of 3 points or more")
    for name, values, length in (("x", polygon[::2], size[1]), ("y", polygon[1::2], size[0])):
        least, most = min(values), max(values)
        if not (math.isfinite(sum(values)) and least >= -length and most <= 2 * length):
            raise ValueError(f"a polygon leaves the frame: {name} from {least} to {most}, the "
                             f"frame has {length} pixels")  # fmt: skip


def _wrong_sum(found: int, size: Size) -> ValueError:
    return ValueError(f"the runs cover {found} pixels: expected {size[0]} x {size[1]}")


def unpack(counts: bytes, size: Size) -> np.ndarray:
    """A mask in the text form of runs -> bool (W, H): columns first, as stored.

    Each number is one or more characters, code 48 + 6 bits: five of the number, lowest first, and
    one that says whether more follow. From the fourth number on, the difference to the number two
    places before is stored, in two's complement.

    Differs: ``pycocotools.mask.decode`` returns unset memory where runs end too early.

    Raises:
        ValueError: the text is damaged or of another size.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError("the runs are damaged")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    lengths = np.diff(starts, append=len(codes))
    if lengths.max() > 8:  # 40 bits
        raise ValueError("the runs are damaged")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * places), starts)
    runs -= np.where(codes[last] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    if runs.min() < 0:
        raise ValueError("the runs are damaged")
    if runs.sum() != math.prod(size):
        raise _wrong_sum(int(runs.sum()), size)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[1], size[0])


class PackedMasks:
    """Masks of all frames of a data set, in a few flat buffers.

    Memory is what the masks take as text, 9 bytes for each and 8 for each frame; the buffers are
    sent to a worker as they are.
    """

    def __init__(self) -> None:
        self._text, self._labels = bytearray(), bytearray()
        self._ends = array("q")  # of each mask in the text
        self._frames = array("q", [0])  # masks up to each frame

    def add(self, label: int, counts: bytes) -> None:
        """A mask of the frame being filled."""
        self._text += counts
        self._labels.append(label)
        self._ends.append(len(self._text))

    def end_frame(self) -> None:
        """Go on to the next frame."""
        self._frames.append(len(self._ends))

    def labels(self, frame: int, size: Size) -> np.ndarray:
        """Label map uint8 (H, W) of a frame; pixels of two masks are 255.

        Args:
            frame: in the order in which frames were filled.
            size: (H, W).

        Raises:
            ValueError: a mask is damaged or of another size.
        """
        labels = np.zeros((size[1], size[0]), dtype=np.uint8)
        for number in range(self._frames[frame], self._frames[frame + 1]):
            start = self._ends[number - 1] if number else 0
            inside = unpack(bytes(self._text[start : self._ends[number]]), size)
            taken = inside & (labels > 0)
            labels[inside] = self._labels[number]
            labels[taken] = IGNORE
        return np.ascontiguousarray(labels.T)
