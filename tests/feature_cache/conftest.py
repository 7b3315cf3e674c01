"""A small cache and the overrides it was written with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from slotreel.feature_cache.filling import Filling
from tests import running

SMALL = (
    "backbone=tiny_vit", "backbone.weights=random", "backbone.depth=1", "losses=ss_contrastive",
    "decoder.hidden_dim=16", "slot_dim=16", "num_slots=3", "image_size=32", "clip_length=2",
    "trainer.batch_size=3", "trainer.num_workers=0", "trainer.num_steps=4", "logger=none",
    "dataset.source.num_videos=4", "+dataset.source.num_frames=6", "validate=none",
    "dataset.augment=[{_target_: slotreel.data.augment.HorizontalFlip, p: 0.5}]",
)  # fmt: skip
SHARD = 3 * 16 * 128 * 4 * 2  # three frames of fp32, plain and mirrored
Fill = Callable[..., Path]


def config(*overrides: str) -> DictConfig:
    return running.composed("train", *SMALL, *overrides)


def filling(folder: Path, *overrides: str, dtype: str = "fp32", crops: int = 0) -> Filling:
    return Filling(config(*overrides), folder, dtype, crops, torch.device("cpu"), SHARD)


def cached(folder: Path, *overrides: Any) -> DictConfig:
    """The configuration that trains from a cache with the backbone it was made with."""
    kept = [o for o in SMALL if not o.startswith("backbone")]
    stand_in = ("backbone=precomputed", f"backbone.path={folder}")
    return running.composed("train", *kept, *stand_in, *overrides)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of SMALL in fp32."""
    folder = tmp_path_factory.mktemp("features") / "fp32"
    torch.set_num_threads(1)
    filling(folder).write()
    return folder
