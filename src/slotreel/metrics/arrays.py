"""Pixels as NumPy arrays or torch tensors on any device: one code path, run where they are.

Pixels are worked on by torch, which reads a NumPy array without copying it; tables of a few hundred
numbers come back as NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

Pixels = np.ndarray | Tensor

STEP = 32  # frames handled together on an accelerator; bounds the memory of integer maps


def as_tensors(*maps: Pixels) -> tuple[Tensor, ...]:
    """All maps as tensors on one device: that of the first one outside main memory, if any.

    The tensors may share memory with the input and must not be written to.

    Args:
        maps: bool or integers, any shape. NumPy arrays need a type torch has too.
    """
    # torch warns about arrays it must not write to and refuses negative strides: copy those
    tensors = [
        torch.from_numpy(np.require(x, requirements=("C", "W"))) if isinstance(x, np.ndarray) else x
        for x in maps
    ]
    device = next((x.device for x in tensors if x.device.type != "cpu"), None)
    return tuple(tensors if device is None else [x.to(device) for x in tensors])


def in_steps(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Go through frames: one at a time in main memory, where caches count, else 32 together.

    Args:
        maps: each (T, ...), on one device.

    Yields:
        The maps, each (t, ...).
    """
    step = 1 if maps[0].device.type == "cpu" else STEP
    yield from zip(*(x.split(step) for x in maps), strict=True)


def find_nonzero(maps: Tensor) -> Tensor:
    """Where a map is not 0: int64 (n,), positions in the flattened map, ascending."""
    flat = maps.reshape(-1)
    if flat.device.type == "cpu":  # 60 us instead of torch's 450 us for boundaries at 480x854
        return torch.from_numpy(np.flatnonzero(flat.numpy() != 0))
    return flat.nonzero().squeeze(1)


def to_numpy(table: Tensor) -> np.ndarray:
    """A tensor on any device as a NumPy array."""
    array: np.ndarray = table.cpu().numpy()
    return array
