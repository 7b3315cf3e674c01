"""Training clips: a random stretch of a video, transformed once per view."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from slotreel.data.sampler import SampleKey
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.interfaces import Transform, VideoSource
from slotreel.noise import seed_of
from slotreel.types import RawClip, Sample

log = logging.getLogger(__name__)
STARTS = ("any", "tiled", "centred")


class _Plan(NamedTuple):
    """Clips begin at frames 0, step, ..., (number - 1) * step and take every stride-th."""

    number: int
    step: int
    stride: int


class TrainingClips(Dataset[Sample]):
    """Clips of ``clip_length`` frames, every ``frame_stride``-th, one per video and epoch.

    Clips are never padded: videos too short for one clip are left out, with one warning. What comes
    out depends on ``seed`` and the key only; another number of views leaves view 0 as it is.

    Args:
        source: where frames come from.
        clip_length: T.
        frame_stride: distance between frames of a clip.
        transforms: applied in order; each view has random numbers of its own.
        num_views: transformed copies of the same frames; labels and hints are those of view 0.
        seed: another seed is another training set.
        starts: clips begin at ``any`` frame, or at multiples of the frames they span (``tiled``),
            as in SlotContrast and VideoSAUR, whose data are cut into pieces that do not overlap, or
            around a ``centred`` frame, as in SMTC: as many frames before it as after it are in the
            video, so that the last ``frame_stride`` frames are never used, and videos too short
            for that take their frames one closer together.

    Attributes:
        videos: numbers of the videos that are long enough; clip i is cut from ``videos[i]``.
        num_frames: their lengths.

    Raises:
        ConfigError: a number is below 1.
        DataError: no video is long enough.
    """

    def __init__(
        self,
        source: VideoSource,
        clip_length: int,
        frame_stride: int = 1,
        transforms: Sequence[Transform] = (),
        num_views: int = 1,
        seed: int = 0,
        starts: str = "any",
    ) -> None:
        if starts not in STARTS:
            raise ConfigError(f"clip_starts={starts}: {nearest(starts, STARTS)}")
        for name, value in (
            ("clip_length", clip_length),
            ("frame_stride", frame_stride),
            ("num_views", num_views),
        ):
            if value < 1:
                raise ConfigError(f"{name}={value}: expected 1 or more")
        self.source, self.transforms = source, tuple(transforms)
        self.clip_length, self.frame_stride = clip_length, frame_stride
        self.num_views, self.seed, self.starts = num_views, seed, starts
        self.span = (clip_length - 1) * frame_stride + 1
        self.videos, self.num_frames = self._long_enough()

    def _long_enough(self) -> tuple[list[int], list[int]]:
        """Numbers and lengths of the videos that have a whole clip."""
        shortest = next(n for n in itertools.count(1) if self._plan(n).number > 0)
        infos = [self.source.info(i) for i in range(len(self.source))]
        videos = [i for i, info in enumerate(infos) if info.num_frames >= shortest]
        short = [info for info in infos if info.num_frames < shortest]
        wanted = f"clip_length={self.clip_length} frame_stride={self.frame_stride}"
        if self.starts != "any":
            wanted += f" clip_starts={self.starts}"
        if not videos:
            longest = max((info.num_frames for info in infos), default=0)
            raise DataError(
                f"none of {len(infos)} videos has the {shortest} frames that {wanted} needs; the "
                f"longest has {longest}: choose a shorter clip_length or a smaller frame_stride"
            )
        if short:
            names = ", ".join(f"{info.id} ({info.num_frames})" for info in short[:10])
            more = f" and {len(short) - 10} more" if len(short) > 10 else ""
            log.warning(
                "%d of %d videos are left out: %s needs %d frames, too short are %s%s",
                len(short), len(infos), wanted, shortest, names, more,
            )  # fmt: skip
        return videos, [infos[i].num_frames for i in videos]

    def __len__(self) -> int:
        """Number of videos that are long enough."""
        return len(self.videos)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The clip at an address.

        Raises:
            DataError: a frame cannot be read, or frames leave the transforms at several sizes.
        """
        raw = self.source.read(*self.place(key))
        views = [self._view(raw, key, number) for number in range(self.num_views)]
        labels = views[0].labels
        return Sample(
            views=tuple(channels_first(view.video) for view in views),
            labels=None if labels is None else torch.from_numpy(np.ascontiguousarray(labels)),
            frames=torch.from_numpy(np.asarray(raw.frames, dtype=np.int64)),
            clip_id=key.number,
            hints={
                name: torch.from_numpy(np.ascontiguousarray(value))
                for name, value in views[0].hints.items()
            },
        )

    def place(self, key: SampleKey) -> tuple[int, range]:
        """Number of the video and places of its frames at an address."""
        rng = np.random.default_rng(seed_of(self.seed, "clip", key.epoch, key.index))
        plan = self._plan(self.num_frames[key.index])
        start = int(rng.integers(plan.number)) * plan.step
        frames = range(start, start + self.clip_length * plan.stride, plan.stride)
        return self.videos[key.index], frames

    def _plan(self, num_frames: int) -> _Plan:
        """Where clips may begin in so many frames; ``number`` is 0 or less if nowhere."""
        T, stride = self.clip_length, self.frame_stride
        if self.starts == "tiled":
            return _Plan(num_frames // self.span, self.span, stride)
        if self.starts == "any":
            return _Plan(num_frames - self.span + 1, 1, stride)
        if num_frames <= 2 * (stride * T // 2) + 1:
            stride -= 1
        return _Plan(num_frames - 2 * (stride * T // 2) if stride else 0, 1, stride)

    def _view(self, raw: RawClip, key: SampleKey, number: int) -> RawClip:
        rng = np.random.default_rng(seed_of(self.seed, "view", key.epoch, key.index, number))
        return apply(self.transforms, raw, rng)


def apply(transforms: Sequence[Transform], clip: RawClip, rng: np.random.Generator) -> RawClip:
    """Transforms in their order."""
    for transform in transforms:
        clip = transform(clip, rng)
    return clip


def channels_first(video: np.ndarray) -> torch.Tensor:
    """Frames uint8 (T, H, W, 3) -> (T, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).contiguous()
