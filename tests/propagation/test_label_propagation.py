"""A model as a tracker: laws of whole videos, frame sizes, settings and refusals."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor

from slotreel.assemble import build_objective, make
from slotreel.backbones.patches import PatchPixels
from slotreel.baselines.trivial import OneSlot
from slotreel.errors import ConfigError, DataError
from slotreel.features_only import FeaturesOnly
from slotreel.propagation.label_propagation import LabelPropagation
from slotreel.types import Batch, Prediction, Progress, VideoInfo
from tests import running

CELL = 8
GRID = (6, 8)
SIZE = (CELL * GRID[0], CELL * GRID[1])
EXACT = {"top_k": 1, "radius": None, "output_norm": "none"}
OPTIONS = sorted(path.stem for path in (running.CONF / "propagation").glob("*.yaml"))


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


def test_what_moves_is_followed() -> None:
    labels = rectangles()
    for t, prediction in enumerate(run(tracker(**EXACT), sliding(9), labels=labels)):
        assert prediction.labels is not None
        assert prediction.labels.shape == SIZE
        expected = np.roll(cells(labels), t, axis=1)
        np.testing.assert_array_equal(cells(prediction.labels), expected)


@pytest.mark.parametrize("memory", [{}, {"pad_first": True}, {"first_frame": False}])
def test_identical_frames_keep_the_label(memory: dict[str, Any]) -> None:
    video = texture().repeat(7, 1, 1, 1)
    labels = rectangles()
    for ties in ("keep", "cut"):
        model = tracker(**EXACT, **memory, recent_frames=3, read_out="masks", ties=ties)
        for prediction in run(model, video, labels=labels):
            assert prediction.masks is not None
            assert prediction.first_label == 0
            got = prediction.masks.argmax(0).numpy()
            np.testing.assert_array_equal(got, cells(labels))
            assert torch.allclose(prediction.masks.amax(0), torch.ones(GRID))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), option=st.sampled_from(OPTIONS))
def test_names_of_objects_do_not_matter(seed: int, option: str) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation(4).astype(np.uint8)
    video = texture(seed) * 0.5 + texture(seed + 1, 4) * 0.5
    model = small(option, read_out="masks")
    labels = rectangles(seed)
    one, other = (run(model, video, labels=first) for first in (labels, names[labels]))
    for a, b in zip(one, other, strict=True):
        assert a.masks is not None
        assert b.masks is not None
        torch.testing.assert_close(b.masks[torch.from_numpy(names).long()], a.masks)


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


@pytest.mark.parametrize("option", OPTIONS)
def test_chunks_change_nothing(option: str) -> None:
    video = texture(3) * 0.6 + texture(4, 6) * 0.4
    labels = rectangles(5)
    whole = run(small(option), video, labels=labels)
    assert len(whole) == 6
    for chunk, max_entries in ((1, 2**22), (4, 500), (6, 1)):
        parts = run(small(option, max_entries=max_entries), video, chunk, labels=labels)
        for a, b in zip(whole, parts, strict=True):
            if a.masks is None:
                assert a.labels is not None
                np.testing.assert_array_equal(a.labels, b.labels)
            else:
                assert b.masks is not None
                torch.testing.assert_close(a.masks, b.masks, atol=1e-6, rtol=0)


def test_a_video_of_one_frame() -> None:
    labels = rectangles()
    labels[:3, :3] = 255
    (only,) = run(tracker(), texture(), labels=labels)
    np.testing.assert_array_equal(only.labels, np.where(labels == 255, 0, labels))


def test_labels_may_have_another_size_than_frames() -> None:
    large = rectangles().repeat(3, 0).repeat(3, 1)
    got = run(tracker(**EXACT), sliding(3), labels=large)
    np.testing.assert_array_equal(got[0].labels, large)
    expected = np.roll(cells(rectangles()), 2, axis=1)
    np.testing.assert_array_equal(cells(got[2].labels), expected)


def test_joints_are_followed() -> None:
    start = np.array([[2.0, 3.0], [1.0, 1.0], [np.nan, np.nan]]) * CELL
    predictions = run(tracker(**EXACT), sliding(4), keypoints=start)
    for t, prediction in enumerate(predictions):
        assert prediction.points is not None
        assert prediction.points.dtype == np.float64
        expected = start[:2] + np.array([CELL * t, 0])
        # two of the four equal neighbours join the best cell
        np.testing.assert_allclose(prediction.points[:2], expected, atol=0.25 * CELL)
        assert prediction.points[2].tolist() == [-1, -1]


def test_joints_are_in_pixels_of_the_original_frame() -> None:
    video = texture().repeat(2, 1, 1, 1)
    model = tracker(**EXACT)
    stream = model.stream(VideoInfo("clip", 2, (10 * SIZE[0], 20 * SIZE[1])))
    start = np.array([[[3.0 * 20 * CELL, 2.0 * 10 * CELL]]])
    points = stream.push(video, {"keypoints": torch.from_numpy(start)})[1].points
    assert points is not None
    np.testing.assert_allclose(points / [20 * CELL, 10 * CELL], [[3, 2]], atol=0.25)


def test_features_at_another_stride() -> None:
    model = tracker(stride=4)
    assert model.describe_frames(texture(0, 2), 0).shape == (2, SIZE[0] // 4, SIZE[1] // 4, 192)
    norms = model.describe_frames(texture(0, 2), 0).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    coarse = tracker(stride=9).describe_frames(texture(), 0)
    assert coarse.shape[1:3] == (SIZE[0] // 9, SIZE[1] // 9)


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
