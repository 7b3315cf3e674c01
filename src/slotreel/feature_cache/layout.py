"""Where each frame is among the shards of a cache, and how its numbers are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
SHARD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Layout:
    """Where each frame is.

    Attributes:
        num_frames: of each video.
        variants: copies of each frame: crops times (plain, flipped).
        fields: shape of one frame of each field of ``FrameFeatures``, e.g. tokens (N, E).
        dtype: fp32, bf16 or fp8 (E4M3 with a power of two per token).
        frames_per_shard: of all but the last.
    """

    num_frames: tuple[int, ...]
    variants: int
    fields: Mapping[str, tuple[int, ...]]
    dtype: str
    frames_per_shard: int

    @classmethod
    def plan(
        cls,
        num_frames: Sequence[int],
        variants: int,
        fields: Mapping[str, tuple[int, ...]],
        dtype: str,
        shard_bytes: int = SHARD_BYTES,
    ) -> Layout:
        """A layout with shards of about ``shard_bytes``."""
        one = cls(tuple(num_frames), variants, fields, dtype, 1)
        return cls(one.num_frames, variants, fields, dtype, max(1, shard_bytes // one.frame_bytes))

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame with all variants."""
        size = DTYPES[self.dtype].itemsize
        scales = 4 if self.dtype == "fp8" else 0
        one = sum(prod(s) * size + prod(s[:-1]) * scales for s in self.fields.values())
        return one * self.variants

    @property
    def total_bytes(self) -> int:
        """Bytes of all frames."""
        return self.frame_bytes * int(self.offsets[-1])

    @property
    def num_shards(self) -> int:
        """Number of files."""
        return -(-int(self.offsets[-1]) // self.frames_per_shard)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Number of the first frame of each video, then the number of frames."""
        return np.concatenate([[0], np.cumsum(self.num_frames, dtype=np.int64)])

    def place(self, video: int, frame: int) -> tuple[int, int]:
        """Shard and row of a frame."""
        if not 0 <= frame < self.num_frames[video]:
            raise IndexError(f"video {video} has {self.num_frames[video]} frames, asked: {frame}")
        return divmod(int(self.offsets[video]) + frame, self.frames_per_shard)

    def pieces(self, shard: int) -> list[tuple[int, range]]:
        """The (video, frames) of a shard, in order."""
        number = shard * self.frames_per_shard
        stop = min(number + self.frames_per_shard, int(self.offsets[-1]))
        found = []
        while number < stop:
            video = int(np.searchsorted(self.offsets, number, side="right")) - 1
            end = min(stop, int(self.offsets[video + 1]))
            start = int(self.offsets[video])
            found.append((video, range(number - start, end - start)))
            number = end
        return found


def name_of(variant: int, field: str) -> str:
    """Name of a field of a variant within a shard."""
    return f"{variant}.{field}"


def pack(name: str, x: Tensor, dtype: str) -> dict[str, Tensor]:
    """Float32 (..., E) as it is stored; fp8 with a power of two per vector of E numbers."""
    if dtype != "fp8":
        return {name: x.to(DTYPES[dtype]).contiguous()}
    largest = torch.finfo(DTYPES[dtype]).max
    exponent = torch.frexp(x.abs().amax(dim=-1, keepdim=True) / largest).exponent
    scale = torch.exp2(exponent.float())
    return {name: (x / scale).to(DTYPES[dtype]).contiguous(), f"{name}.scale": scale.contiguous()}


def unpack(x: Tensor, scale: Tensor | None) -> Tensor:
    """What ``pack`` stored; a power of two times fp8 is exact in bf16."""
    return x if scale is None else x.to(torch.bfloat16) * scale.to(torch.bfloat16)
