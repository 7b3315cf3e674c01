"""Little videos, models on them, and the settings of published programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from slotreel.assemble import make
from slotreel.backbones.patches import PatchPixels
from slotreel.features_only import FeaturesOnly
from slotreel.propagation.affinity import Affinity
from slotreel.propagation.label_propagation import LabelPropagation
from slotreel.types import Prediction, VideoInfo
from tests import running

CELL = 8
GRID = (6, 8)
SIZE = (CELL * GRID[0], CELL * GRID[1])
EXACT = {"top_k": 1, "radius": None, "output_norm": "none"}
OPTIONS = sorted(path.stem for path in (running.CONF / "propagation").glob("*.yaml"))


def dino(top_k: int, radius: float | None, **changes: Any) -> Affinity:
    knobs = {"ties": "keep", "temperature": 0.1, "window": "square", "window_first": True}
    return Affinity(**{"top_k": top_k, "radius": radius, "max_entries": 2**22, **knobs, **changes})


def crw(top_k: int, radius: float | None, temperature: float, **changes: Any) -> Affinity:
    knobs = {"ties": "cut", "temperature": temperature, "window": "disk", "window_first": False}
    return dino(top_k, radius, **{**knobs, **changes})


def tracker(**knobs: Any) -> LabelPropagation:
    return LabelPropagation(FeaturesOnly(backbone=PatchPixels(patch_size=CELL)), **knobs)


def texture(seed: int = 0, num_frames: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_frames, 3, *SIZE, generator=generator)


def sliding(num_frames: int) -> Tensor:
    """A texture that moves by a cell to the right in every frame, and comes back on the left."""
    return torch.stack([texture()[0].roll(CELL * t, dims=-1) for t in range(num_frames)])


def rectangles(seed: int = 0, num_ids: int = 4) -> np.ndarray:
    """Labels uint8 (H, W), one id per cell, all ids present."""
    rng = np.random.default_rng(seed)
    cells = np.concatenate([np.arange(num_ids), rng.integers(0, num_ids, 48 - num_ids)])
    return rng.permutation(cells).reshape(GRID).astype(np.uint8).repeat(CELL, 0).repeat(CELL, 1)


def run(
    model: LabelPropagation, video: Tensor, chunk: int = 100, **hints: np.ndarray
) -> list[Prediction]:
    info = VideoInfo("clip", len(video), (int(video.shape[-2]), int(video.shape[-1])))
    stream, predictions = model.stream(info), []
    for start in range(0, len(video), chunk):
        first = {name: hint[None] for name, hint in hints.items()} if not start else None
        predictions += stream.push(video[start : start + chunk], first)
    assert stream.finish() == []
    assert [p.frame for p in predictions] == list(range(len(video)))
    return predictions


def cells(labels: np.ndarray | None) -> np.ndarray:
    """Label in the middle of each cell, where a map of cells is not blurred by upsampling."""
    assert labels is not None
    return labels[CELL // 2 :: CELL, CELL // 2 :: CELL]


def small(option: str, **knobs: Any) -> LabelPropagation:
    """Settings of an option, for the little videos of these tests."""
    cfg = composed(option)
    few = {"radius": 3, "top_k": 4, "recent_frames": 3, "multiple": CELL}
    for key, value in {**few, **knobs}.items():
        cfg[key] = value
    built: LabelPropagation = make(cfg)(FeaturesOnly(backbone=PatchPixels(patch_size=CELL)))
    return built


def composed(option: str) -> DictConfig:
    with initialize_config_dir(str(running.CONF), version_base="1.3"):
        cfg: DictConfig = compose(f"propagation/{option}").propagation
    return cfg
