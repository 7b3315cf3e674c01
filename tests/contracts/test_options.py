"""What every option promises, whichever it is."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective
from slotreel.feature_cache.layout import Layout
from slotreel.feature_cache.store import FeatureStore
from slotreel.interfaces import Objective
from slotreel.objective import SlotObjective
from slotreel.types import Batch, Progress
from tests import running

SIZE, CLIPS, FRAMES = 32, 3, 3
TAUGHT = ["grouper=smtc", "model.ema=0.9"]
LOSSES_WANT = {
    "videosaur": ["backbone=tiny_vit", "backbone.weights=random"],
    "slot_contrast": ["decoder=none"],
    "my_loss": ["losses=[feature_rec,my_loss]"],
    "semantic_transport": TAUGHT,
    # alone it does not train the means of instances that are drawn around them
    "instance_consistency": [*TAUGHT, "losses=[slot_divergence,instance_consistency]"],
    "smtc": TAUGHT,
}


def extra(group: str, option: str) -> list[str]:
    """Overrides that make an option small, offline, and set in a combination it allows."""
    typed = [f"{group}={option}", f"image_size={SIZE}", f"clip_length={FRAMES}", "slot_dim=16"]
    typed += ["num_slots=4", f"trainer.batch_size={CLIPS}"]
    if group == "backbone":
        if option.startswith(("timm_vit", "dino", "mae")):
            typed += ["backbone.weights=random", "+backbone.model_args.depth=2"]
            patch = next((p for p in (8, 14, 16) if option.rstrip("_reg").endswith(str(p))), 14)
            typed[1] = f"image_size={4 * patch}"
        if option == "small_cnn":
            typed += ["losses=pixel_rec", "backbone.strides=[2,2,1,1]"]
        if option == "tiny_vit":
            typed += ["backbone.weights=random"]
        if option == "precomputed":
            typed += [f"backbone.path={stored_patches()}"]
    if group == "projector" and option == "identity":
        typed += ["slot_dim=48"]
    if group == "losses":
        typed += LOSSES_WANT.get(option, [])
    if group == "decoder":
        losses = {"none": "slot_contrast", "spatial_broadcast": "pixel_rec"}
        typed += [f"losses={losses.get(option, 'ss_contrastive')}"]
    typed += ["decoder.hidden_dim=16"] if "decoder=none" not in typed and group != "decoder" else []
    return typed


@cache
def stored_patches() -> Path:
    """The index of features of backbone=patches: what building a model reads of them."""
    folder = Path(tempfile.mkdtemp())
    backbone: Any = OmegaConf.to_container(running.composed("train").backbone)
    layout = Layout((1,), 1, {"tokens": (64, 48)}, "fp32", 1)
    FeatureStore.create(folder, layout, (8, 8), {}, backbone)
    return folder


@pytest.fixture
def cfg(option: tuple[str, str]) -> DictConfig:
    return running.composed("train", *extra(*option))


@pytest.fixture
def objective(cfg: DictConfig) -> SlotObjective:
    built = build_objective(cfg)
    assert isinstance(built, SlotObjective)
    return built


def batch_of(objective: Objective, cfg: DictConfig, clips: int = CLIPS) -> Batch:
    size = cfg.image_size
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(clips, FRAMES, 3, size, size, generator=generator)
    frames = torch.arange(FRAMES).expand(clips, FRAMES)
    return Batch((video,) * objective.views, frames, torch.arange(clips))


def test_every_trainable_parameter_gets_a_finite_gradient(
    objective: SlotObjective, cfg: DictConfig
) -> None:
    objective.train()
    out = objective(batch_of(objective, cfg), Progress(5, 10))
    out.total.backward()
    assert torch.isfinite(out.total)
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} gets no gradient and does not declare it"
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, name


def test_shapes_and_masks(objective: SlotObjective, cfg: DictConfig) -> None:
    objective.eval()
    batch = batch_of(objective, cfg)
    with torch.no_grad():
        out = objective.model(batch.views[0], {}, objective.noise)
    assert objective.model.grouper.levels <= out.levels.keys()
    h, w = out.features.grid
    k = objective.model.grouper.num_slots
    assert out.features.tokens.shape[:3] == (CLIPS, FRAMES, h * w)
    assert out.slots.shape == (CLIPS, FRAMES, k, cfg.slot_dim)
    assert out.masks.shape == (CLIPS, FRAMES, k, h * w)
    assert out.masks.min() >= 0
    assert torch.allclose(out.masks.sum(2), torch.ones(CLIPS, FRAMES, h * w), atol=1e-5)
    if objective.model.decoder is not None:
        decoded = objective.model.decode(out.slots, out.features.grid)
        rows, columns = decoded.grid
        assert decoded.masks is not None
        assert decoded.masks.shape == (CLIPS * FRAMES, k, rows * columns)
        total = decoded.masks.sum(1)
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def test_no_frame_reads_the_future_and_steps_equal_the_clip(
    objective: SlotObjective, cfg: DictConfig
) -> None:
    objective.eval()
    video = batch_of(objective, cfg, clips=1).views[0]
    changed = video.clone()
    changed[:, -1] = 1 - changed[:, -1]
    with torch.no_grad():
        out = objective.model(video, {}, objective.noise)
        if objective.model.grouper.window is not None:
            pytest.skip("declares that it looks ahead")
        other = objective.model(changed, {}, objective.noise)
        assert torch.equal(out.slots[:, :-1], other.slots[:, :-1])
        state = None
        features = objective.model.encode(video)
        for t in range(FRAMES):
            frame, state = objective.model.step(features.frame(t), {}, state, objective.noise)
            assert torch.allclose(frame.slots, out.slots[:, t], atol=1e-5)


def test_clips_of_a_batch_do_not_mix(objective: SlotObjective, cfg: DictConfig) -> None:
    """Clip 0 gives the same slots whatever stands beside it."""
    objective.eval()
    video = batch_of(objective, cfg).views[0]
    other = torch.cat([video[:1], 1 - video[1:]])
    with torch.no_grad():
        a = objective.model(video, {}, objective.noise).slots[0]
        b = objective.model(other, {}, objective.noise).slots[0]
    assert torch.allclose(a, b, atol=1e-5)
