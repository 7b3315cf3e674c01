"""Every combination either trains or is refused with what to type instead."""

from __future__ import annotations

import itertools

import pytest
import torch

from slotreel.assemble import build_objective
from slotreel.errors import ConfigError
from slotreel.types import Batch, Progress
from tests import running

LOSSES = ("ss_contrastive", "pixel_rec", "slot_contrast", "[feature_rec,pixel_rec]")
OPTIONS = {
    group: sorted(p.stem for p in (running.CONF / group).glob("*.yaml"))
    for group in ("grouper", "initializer", "predictor", "decoder")
} | {"losses": list(LOSSES), "backbone": ["patches", "small_cnn"]}
SMALL = ("image_size=32", "clip_length=2", "slot_dim=16", "num_slots=3", "trainer.batch_size=2")


@pytest.mark.slow
@pytest.mark.parametrize("grouper", OPTIONS["grouper"])
@pytest.mark.parametrize("losses", OPTIONS["losses"])
def test_runs_or_says_what_to_type(grouper: str, losses: str) -> None:
    others = [g for g in OPTIONS if g not in ("grouper", "losses")]
    choices = list(itertools.product(*(OPTIONS[g] for g in others)))
    ran, refusals = 0, []
    for choice in choices:
        typed = [f"{g}={o}" for g, o in zip(others, choice, strict=True)]
        small = ["backbone.strides=[2,2,1,1]"] if "backbone=small_cnn" in typed else []
        fixed = [f"grouper={grouper}", f"losses={losses}", *SMALL]
        cfg = running.composed("train", *fixed, *typed, *small)
        try:
            objective = build_objective(cfg)
        except ConfigError as error:
            refusals.append(str(error))
            continue
        video = torch.rand(2, 2, 3, 32, 32)
        batch = Batch((video,), torch.arange(2).expand(2, 2), torch.arange(2))
        out = objective(batch, Progress(0, 1))
        out.total.backward()
        assert torch.isfinite(out.total), typed
        ran += 1
    assert ran + len(refusals) == len(choices)
    assert [refusal for refusal in refusals if "type " not in refusal.lower()] == []
    assert ran >= 12
