"""Stored data and a source whose pixels tell where they are from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slotreel.errors import DataError
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip, VideoInfo

ROOT = Path(__file__).resolve().parents[2]
DAVIS = ROOT / "tests" / "data" / "davis"
CLIP = ROOT / "tests" / "data" / "clips" / "dog.mp4"


class Counting(VideoSource):
    """Videos whose pixels say which video, frame, row and column they are of."""

    def __init__(self, lengths: Sequence[int], size: tuple[int, int] = (12, 16)) -> None:
        self.lengths, self.size = list(lengths), size

    def __len__(self) -> int:
        return len(self.lengths)

    def info(self, index: int) -> VideoInfo:
        return VideoInfo(f"v{index}", self.lengths[index], self.size)

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        rows, columns = np.indices(self.size, dtype=np.uint8)
        video = np.stack([np.stack([rows * 16 + columns, *[np.full_like(rows, v)] * 2], -1)
                          for v in ((index * 16 + n) % 256 for n in frames)])  # fmt: skip
        labels = np.stack([rows * 16 + columns for _ in frames])
        return RawClip(video, labels, np.asarray(frames, dtype=np.int64), {})


class Broken(Counting):
    """Counting, but one video cannot be read."""

    def __init__(self, lengths: Sequence[int], bad: int) -> None:
        super().__init__(lengths)
        self.bad = bad

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        if index == self.bad:
            raise DataError(f"cannot read the video v{index}: made so")
        return super().read(index, frames)
