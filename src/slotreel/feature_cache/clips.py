"""Training clips with the features of their frames from disk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slotreel.data.clips import TrainingClips
from slotreel.data.sampler import SampleKey
from slotreel.feature_cache.recipe import Recipe
from slotreel.feature_cache.store import FeatureStore
from slotreel.types import FrameFeatures, RawClip, Sample


class CachedClips(TrainingClips):
    """The clips of ``TrainingClips``, with features of view 0 as it leaves ``dataset.augment``.

    Args:
        store: features of every frame.
        recipe: which variant a clip shows.
        batch_size: clips per step over all ranks: which step a clip belongs to.
        want: optional fields of FrameFeatures that some part uses.
        pixels: read frames, labels and hints too; False leaves views without a pixel.
        arguments: of ``TrainingClips``, without transforms and num_views.
    """

    def __init__(
        self,
        *,
        store: FeatureStore,
        recipe: Recipe,
        batch_size: int,
        want: frozenset[str],
        pixels: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments, transforms=recipe.transforms)
        self.store, self.recipe, self.batch_size = store, recipe, batch_size
        self.want, self.pixels = want, pixels

    def __getitem__(self, key: SampleKey) -> Sample:
        """The clip at an address, with its features."""
        video, frames = self.place(key)
        crop = self.recipe.crop_of(self.seed, key)
        step = key.number // self.batch_size
        variant = self.recipe.variant(crop, self.recipe.mirrored(self.seed, step, key.number))
        found = self.store.read(video, frames, variant)
        features = features_of(found, self.store.grid, self.want)
        sample = super().__getitem__(key) if self.pixels else self._unseen(key, frames)
        return sample._replace(features=features)

    def _unseen(self, key: SampleKey, frames: range) -> Sample:
        empty = torch.zeros(len(frames), 3, 0, 0, dtype=torch.uint8)
        return Sample((empty,), None, torch.tensor(frames), key.number, {})

    def _view(self, raw: RawClip, key: SampleKey, number: int) -> RawClip:
        if not self.recipe.crops:
            return super()._view(raw, key, number)
        crop = self.recipe.crop_of(self.seed, key)
        return self.recipe.clip(raw, self.videos[key.index], crop)


def features_of(
    found: dict[str, Tensor], grid: tuple[int, int], want: frozenset[str]
) -> FrameFeatures:
    """Stored fields as a backbone gives them, without those nobody wants."""
    optional = {name: x for name, x in found.items() if name in want}
    return FrameFeatures(found["tokens"], grid, **optional)
