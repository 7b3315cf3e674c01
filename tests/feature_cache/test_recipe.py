"""Which recipes can be stored, and that stored variants are those training shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.data.augment import HorizontalFlip, Resize, augment_batch
from slotreel.data.augment_colour import Grayscale
from slotreel.data.transforms import CenterCrop, RandomCrop, RandomResizedCrop
from slotreel.errors import ConfigError
from slotreel.feature_cache.recipe import Recipe
from slotreel.types import Batch
from tests.datasets.helpers import Counting


def test_random_crops_are_refused_with_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"RandomResizedCrop.*--crops 4.*transforms\.Resize"):
        Recipe([RandomResizedCrop(8)], [])
    with pytest.raises(ConfigError, match="leave --crops out"):
        Recipe([CenterCrop(8)], [], crops=2)


def test_colours_that_change_at_every_step_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Grayscale.*dataset\.augment=\[\]"):
        Recipe([], [Grayscale()], crops=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 99), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_mirrored_where_training_mirrors(seed: int, step: int, chances: list[float]) -> None:
    steps = [Resize(6), *(HorizontalFlip(p) for p in chances)]
    recipe = Recipe([], steps)
    video = torch.rand(4, 2, 3, 8, 8)
    batch = Batch((video,), torch.zeros(4, 2, dtype=torch.long), torch.arange(5, 9))
    shown = augment_batch(batch, steps, seed, step).views[0]
    for b, clip in enumerate(batch.clip_id.tolist()):
        variant = recipe.on_device(video[b : b + 1], recipe.mirrored(seed, step, clip))
        assert torch.equal(variant[0], shown[b])


def test_a_crop_is_the_same_however_its_frames_are_read() -> None:
    source = Counting([9, 9])
    recipe = Recipe([RandomCrop((6, 7))], [HorizontalFlip()], crops=8)
    assert recipe.variants == 16
    assert {recipe.variant(c, m) for c in range(8) for m in (False, True)} == set(range(16))
    whole = recipe.pixels(source, 1, range(9), crop=3)
    parts = [recipe.pixels(source, 1, range(t, t + 3), crop=3) for t in (0, 3, 6)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    windows = [recipe.pixels(source, 1, range(1), crop=c).numpy() for c in range(8)]
    assert len(np.unique(np.stack(windows), axis=0)) > 1
