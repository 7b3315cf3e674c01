"""Randomness as a named source: the same draw on any number of ranks, workers and devices."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*path: object) -> int:
    """A 63-bit seed that depends on every part of ``path`` (numbers, strings) and nothing else."""
    digest = hashlib.blake2b(repr(path).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Noise:
    """Draws addressed by name, not by order.

    ``Noise(seed).child("step", 7).normal("initializer", (B, K, D), like=x)`` gives the same numbers
    whenever the address is the same. The first axis counts clips of one rank: values are drawn for
    all ranks and this rank's part is returned, so N processes see what one process would see.

    Args:
        path: the address: first the run's seed, then whatever tells draws apart.
        rank: this rank's place among ``world_size``.
        world_size: number of ranks sharing the global batch.
    """

    def __init__(self, *path: object, rank: int = 0, world_size: int = 1) -> None:
        self.path = path
        self._clip: Noise | None = None
        self.rank, self.world_size = rank, world_size

    def child(self, *path: object) -> Noise:
        """The source at a longer address."""
        return Noise(*self.path, *path, rank=self.rank, world_size=self.world_size)

    def piece(self, number: int, pieces: int) -> Noise:
        """The source of one of equal pieces of this rank's clips: accumulation draws the same."""
        first = self.rank * pieces
        return Noise(*self.path, rank=first + number, world_size=self.world_size * pieces)

    def frame(self, number: int) -> Noise:
        """The source of one frame of a clip, which remembers this one as its ``clip``."""
        source = self.child("frame", number)
        source._clip = self
        return source

    @property
    def clip(self) -> Noise:
        """Of a frame's source, that of its whole clip; of any other, itself."""
        return self if self._clip is None else self._clip

    def _draw(self, kind: str, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(*self.path, name))
        whole = (shape[0] * self.world_size, *shape[1:])
        sample = torch.randn if kind == "normal" else torch.rand
        part = sample(whole, generator=generator)[self.rank * shape[0] : (self.rank + 1) * shape[0]]
        return part.to(device=like.device, dtype=like.dtype)

    def normal(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard normal values of ``shape`` with the device and dtype of ``like``."""
        return self._draw("normal", name, shape, like)

    def uniform(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Values uniform in [0, 1) of ``shape`` with the device and dtype of ``like``."""
        return self._draw("uniform", name, shape, like)
