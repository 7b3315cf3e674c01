"""Frame sizes, options, refusals, and the models that labels are propagated with."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from slotreel.assemble import build_objective, make
from slotreel.backbones.patches import PatchPixels
from slotreel.baselines.trivial import OneSlot
from slotreel.errors import ConfigError, DataError
from slotreel.features_only import FeaturesOnly
from slotreel.propagation.label_propagation import LabelPropagation
from slotreel.types import Batch, Progress, VideoInfo
from tests import running
from tests.propagation.helpers import (
    EXACT,
    OPTIONS,
    SIZE,
    cells,
    composed,
    rectangles,
    run,
    sliding,
    texture,
    tracker,
)


@pytest.mark.parametrize(
    ("knobs", "frame", "expected"),
    [
        ({}, (480, 854), (480, 832)),
        ({}, (480, 910), (480, 896)),
        ({}, (1080, 1920), (480, 832)),
        ({}, (854, 480), (832, 480)),
        ({}, (500, 500), (480, 448)),
        ({"short_side": None, "multiple": 16}, (480, 854), (480, 848)),
        ({"short_side": None, "multiple": 8}, (480, 910), (480, 904)),
        ({"short_side": None, "multiple": 16}, (9, 40), (16, 32)),
        ({"short_side": None, "multiple": 1}, (37, 41), (37, 41)),
        ({"frame_size": [320, 320]}, (240, 320), (320, 320)),
        ({"frame_size": 560}, (240, 320), (560, 560)),
    ],
)
def test_frame_size(
    knobs: dict[str, Any], frame: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert tracker(**knobs).input_size(frame, (64, 64)) == expected


@pytest.mark.parametrize("option", OPTIONS)
def test_options_name_every_setting(option: str) -> None:
    cfg = composed(option)
    settings = set(inspect.signature(LabelPropagation).parameters) - {"objective"}
    assert {key for key in cfg if not str(key).startswith("_")} == settings
    model = make(cfg)(FeaturesOnly(backbone=PatchPixels()))
    assert isinstance(model, LabelPropagation)
    assert model.conditional
    assert not model.trainable
    if option == "dino":
        defaults = inspect.signature(LabelPropagation).parameters
        assert {name: defaults[name].default for name in settings} == {k: cfg[k] for k in settings}


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"first_label": "linear"}, "did you mean: bilinear"),
        ({"output_norm": "channel"}, "per_channel"),
        ({"read_out": "label"}, "did you mean: labels"),
        ({"stride": 0}, "propagation.stride=8"),
        ({"short_side": 0}, "propagation.short_side=480"),
        ({"multiple": 0}, "propagation.multiple=16"),
        ({"frame_size": [320]}, "propagation.frame_size=320"),
        ({"recent_frames": -1}, "propagation.recent_frames=7"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        tracker(**wrong)


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match="model=features"):
        LabelPropagation(OneSlot(num_slots=1))
    with pytest.raises(ConfigError, match=r"multiples of 8.*44x64: see propagation\.multiple"):
        run(tracker(), texture()[..., :44, :], labels=rectangles())
    with pytest.raises(DataError, match="first frame of video 'clip'"):
        run(tracker(), texture())
    with pytest.raises(DataError, match="all are 255"):
        run(tracker(), texture(), labels=np.full(SIZE, 255, np.uint8))
    with pytest.raises(ValueError, match="both"):
        run(tracker(), texture(), labels=rectangles(), keypoints=np.zeros((1, 2)))
    batch = Batch((texture()[None],), torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(ConfigError, match="nothing to train"):
        tracker().training_step(batch, Progress(0, 1))


def test_a_backbone_alone_is_a_model() -> None:
    model = build_objective(running.composed("train", "model=features", "backbone=small_cnn"))
    assert isinstance(model, FeaturesOnly)
    assert not model.trainable
    assert not any(p.requires_grad for p in model.parameters())
    batch = Batch((texture()[None],), torch.zeros(1, 1), torch.zeros(1))
    expected = model.backbone(batch.views[0])
    assert torch.equal(model.features(batch).tokens, expected.tokens)
    with pytest.raises(ConfigError, match="validate=davis2017_propagation"):
        model.stream(VideoInfo("clip", 1, SIZE))
    with pytest.raises(ConfigError, match="nothing to train"):
        model.training_step(batch, Progress(0, 1))


def test_a_slot_model_gives_its_features() -> None:
    model = LabelPropagation(build_objective(running.composed("train")), **EXACT)
    labels = rectangles()
    last = run(model, sliding(3), labels=labels)[-1]
    np.testing.assert_array_equal(cells(last.labels), np.roll(cells(labels), 2, axis=1))
