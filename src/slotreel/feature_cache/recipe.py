"""Which frames a training recipe shows to the backbone: the few variants that can be stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slotreel.data.augment import Augmentation, HorizontalFlip, generator_of
from slotreel.data.clips import apply, channels_first
from slotreel.data.sampler import SampleKey
from slotreel.errors import ConfigError
from slotreel.interfaces import Transform, VideoSource
from slotreel.noise import seed_of
from slotreel.types import Batch, RawClip


class Recipe:
    """A fixed number of crops, each plain and, if the recipe mirrors, mirrored.

    Variant ``2 * crop + mirrored`` (``crop`` where nothing mirrors) is a function of the video.

    Args:
        transforms: ``dataset.transform``.
        augment: ``dataset.augment``: mirroring and what draws nothing.
        crops: number of draws of random transforms that are stored; 0 where there are none.

    Raises:
        ConfigError: random transforms without ``crops``, or changes that no fixed number of
            variants can stand for.
    """

    def __init__(
        self, transforms: Sequence[Transform], augment: Sequence[Augmentation], crops: int = 0
    ) -> None:
        drawn = [type(t).__name__ for t in transforms if not getattr(t, "deterministic", False)]
        if drawn and not crops:
            raise ConfigError(
                f"dataset.transform draws anew at every visit ({', '.join(drawn)}), which features "
                "on disk cannot follow. Store a fixed number of draws: add --crops 4; or draw "
                "nothing, here and in training: type 'dataset.transform=[{_target_: "
                "slotreel.data.transforms.Resize, size: ${image_size}}]'"
            )
        if crops and not drawn:
            raise ConfigError(
                f"--crops {crops}: nothing in dataset.transform draws; leave --crops out"
            )
        other = [a for a in augment if not a.deterministic and not isinstance(a, HorizontalFlip)]
        if other:
            raise ConfigError(
                f"dataset.augment has {', '.join(type(a).__name__ for a in other)}, which changes "
                "pixels anew at every step; only HorizontalFlip and Resize can be stored. Type, "
                "here and in training, 'dataset.augment=[{_target_: "
                "slotreel.data.augment.HorizontalFlip, p: 0.5}]' or dataset.augment=[]"
            )
        self.transforms, self.augment, self.crops = tuple(transforms), tuple(augment), crops
        self.flips = [a for a in augment if isinstance(a, HorizontalFlip)]

    @property
    def variants(self) -> int:
        """Copies of each frame."""
        return max(1, self.crops) * (2 if self.flips else 1)

    def variant(self, crop: int, mirrored: bool) -> int:
        """Number of a variant."""
        return 2 * crop + mirrored if self.flips else crop

    def clip(self, raw: RawClip, video: int, crop: int) -> RawClip:
        """Frames of a video as one crop shows them."""
        rng = np.random.default_rng(seed_of("crop", video, crop))
        return apply(self.transforms, raw, rng)

    def pixels(self, source: VideoSource, video: int, frames: range, crop: int) -> Tensor:
        """Those frames read and cut, uint8 (1, T, 3, H, W)."""
        return channels_first(self.clip(source.read(video, frames), video, crop).video)[None]

    def on_device(self, video: Tensor, mirrored: bool) -> Tensor:
        """``dataset.augment`` of frames (1, T, 3, H, W) in [0, 1], the outcome of draws given."""
        T = video.shape[1]
        batch = Batch((video,), torch.arange(T)[None], torch.zeros(1, dtype=torch.long))
        for step in self.augment:
            if isinstance(step, HorizontalFlip):
                # an even number of flips cancels: the last one decides
                step = HorizontalFlip(float(mirrored and step is self.flips[-1]))
            batch = step(batch, [torch.Generator()])
        return batch.views[0]

    def crop_of(self, seed: int, key: SampleKey) -> int:
        """Which crop a clip shows."""
        if not self.crops:
            return 0
        rng = np.random.default_rng(seed_of(seed, "crop", key.epoch, key.index))
        return int(rng.integers(self.crops))

    def mirrored(self, seed: int, step: int, clip_id: int) -> bool:
        """Whether ``augment_batch`` mirrors this clip at this step."""
        generator = generator_of(seed, step, clip_id)
        return sum(flip.draw(generator) for flip in self.flips) % 2 == 1
