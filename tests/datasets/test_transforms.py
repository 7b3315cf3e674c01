"""Transforms on coordinate images: pixels, labels and boxes must tell the same place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.data.geometry import nearest_resize
from slotreel.data.transforms import (
    CenterCrop,
    HorizontalFlip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShortSide,
)
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Transform
from slotreel.types import RawClip


def coordinates(H: int, W: int, T: int = 3) -> RawClip:
    """Red = row, green = column; labels = column; one box around it all, one absent."""
    rows, columns = np.indices((H, W))
    frame = np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)
    boxes = np.tile(np.array([[0, 0, 1, 1], [0, 0, 0, 0]], dtype=np.float32), (T, 1, 1))
    labels = np.tile(columns.astype(np.uint8), (T, 1, 1))
    return RawClip(np.tile(frame, (T, 1, 1, 1)), labels, np.arange(T), {"boxes": boxes})


TRANSFORMS: list[Transform] = [
    Resize((30, 40)),
    Resize(32, interpolation="bicubic"),
    Resize(48, interpolation="nearest", antialias=False),
    ResizeShortSide(31),
    CenterCrop((20, 33)),
    RandomCrop(24),
    RandomResizedCrop(28),
    RandomResizedCrop((20, 36), scale=(0.9, 1.0), ratio=(4.0, 5.0)),
    HorizontalFlip(1.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_labels_follow_pixels(transform: Transform) -> None:
    clip = coordinates(60, 80)
    out = transform(clip, np.random.default_rng(3))
    assert out.labels is not None
    assert out.video.dtype == out.labels.dtype == np.uint8
    assert out.video.shape[:3] == out.labels.shape
    assert (out.video == out.video[:1]).all()
    assert (out.labels == out.labels[:1]).all()
    assert np.array_equal(out.frames, clip.frames)
    inner = np.s_[:, 2:-2, 2:-2]  # interpolation flattens the outermost pixels
    columns, labels = out.video[..., 1][inner].astype(int), out.labels[inner].astype(int)
    assert np.abs(columns - labels).max() <= 2


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_boxes_follow_pixels(transform: Transform) -> None:
    clip = coordinates(60, 80)
    clip.hints["boxes"][:, 0] = [0.2, 0.3, 0.6, 0.9]
    video = np.zeros_like(clip.video)
    video[:, 12:36, 24:72] = 255
    out = transform(clip._replace(video=video), np.random.default_rng(3))
    rows = np.flatnonzero((out.video[0] > 127).any((1, 2)))
    columns = np.flatnonzero((out.video[0] > 127).any((0, 2)))
    H, W = out.video.shape[1:3]
    seen = [rows[0] / H, columns[0] / W, (rows[-1] + 1) / H, (columns[-1] + 1) / W]
    assert np.abs(out.hints["boxes"][0, 0] - seen).max() <= 1.01 / min(H, W)
    assert (out.hints["boxes"][:, 1] == 0).all()


@pytest.mark.parametrize("transform", TRANSFORMS[:-1], ids=lambda t: type(t).__name__)
def test_keypoints_follow_pixels(transform: Transform) -> None:
    clip = coordinates(60, 80)
    x, y = np.meshgrid(np.arange(0.5, 80, 7.25), np.arange(0.0, 60, 6.5))
    points = np.tile(np.stack([x.ravel(), y.ravel()], -1), (3, 1, 1))
    points[:, 5] = np.nan
    out = transform(clip._replace(hints={"keypoints": points}), np.random.default_rng(3))
    moved = out.hints["keypoints"]
    assert (moved.shape, moved.dtype) == (points.shape, np.float64)
    assert np.isnan(moved[:, 5]).all()
    H, W = out.video.shape[1:3]
    inside = [n for n, (x, y) in enumerate(moved[0]) if 1 <= x <= W - 2 and 1 <= y <= H - 2]
    assert len(inside) >= 5
    for (x, y), (column, row) in zip(moved[0, inside], points[0, inside], strict=True):
        around = out.video[0, round(y), round(x)].astype(int)  # red = row, green = column
        half_a_step = max(60 / H, 80 / W) / 2
        assert np.abs(around[:2] - (row, column)).max() <= half_a_step + 1


def test_keypoints_keep_pixel_centres_and_places_outside() -> None:
    clip = coordinates(4, 8)._replace(hints={"keypoints": np.tile([0.0, 3.0], (3, 1, 1))})
    rng = np.random.default_rng(0)
    larger = Resize((8, 24))(clip, rng).hints["keypoints"]
    assert larger[0, 0].tolist() == [1.0, 6.5]  # middle of the 3 x 2 pixels that became of it
    assert CenterCrop((2, 4))(clip, rng).hints["keypoints"][0, 0].tolist() == [-2.0, 2.0]
    for p in (0.0, 1.0):
        with pytest.raises(ConfigError, match=r"dataset.transform: HorizontalFlip would turn left"):
            HorizontalFlip(p)(clip, rng)


def test_box_that_is_cut_away_becomes_absent() -> None:
    clip = coordinates(60, 80)
    clip.hints["boxes"][:, 0] = [0.0, 0.0, 0.1, 0.1]
    out = CenterCrop(20)(clip, np.random.default_rng(0))
    assert (out.hints["boxes"] == 0).all()


@given(st.integers(0, 2**32), st.integers(5, 50), st.integers(5, 50))
@settings(max_examples=60, deadline=None)
def test_random_windows_stay_inside(seed: int, H: int, W: int) -> None:
    rng = np.random.default_rng(seed)
    crop = RandomResizedCrop(8, scale=(0.05, 1.0), ratio=(0.3, 3.0))
    top, left, h, w = crop._window(H, W, rng)
    assert 0 <= top <= top + h <= H
    assert 0 <= left <= left + w <= W
    assert min(h, w) >= 1
    out = RandomCrop(5)(coordinates(H, W), rng)
    assert out.video.shape == (3, 5, 5, 3)


def test_random_crop_reaches_every_place() -> None:
    corners = {
        tuple(
            RandomCrop(3)(coordinates(5, 5), np.random.default_rng(n)).video[0, 0, 0, :2].tolist()
        )
        for n in range(100)
    }
    assert corners == {(top, left) for top in range(3) for left in range(3)}


def test_flip_is_drawn_once_per_clip() -> None:
    clip = coordinates(4, 6)
    flips = [
        (HorizontalFlip(0.3)(clip, np.random.default_rng(n)).video != clip.video).any()
        for n in range(300)
    ]
    assert 60 < sum(flips) < 120
    clip.hints["boxes"][:, 0] = [0.1, 0.2, 0.5, 0.4]
    flipped = HorizontalFlip(1)(clip, np.random.default_rng(0)).hints["boxes"][0, 0]
    assert np.allclose(flipped, [0.1, 0.6, 0.5, 0.8])


def test_labels_of_another_size_join_the_frames() -> None:
    clip = coordinates(60, 80)
    assert clip.labels is not None
    out = CenterCrop((30, 40))(
        clip._replace(labels=clip.labels[:, ::2, ::2]), np.random.default_rng()
    )
    assert out.labels is not None
    assert out.labels.shape == (3, 30, 40)
    assert np.abs(out.labels.astype(int) - out.video[..., 1]).max() <= 1
    same = Resize((60, 80))(clip._replace(labels=clip.labels[:, ::2, ::2]), np.random.default_rng())
    assert same.labels is not None
    assert same.labels.shape == (3, 60, 80)


def test_nearest_takes_the_id_under_the_centre() -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(1, 1, 6)
    assert nearest_resize(labels, (1, 2))[0, 0].tolist() == [1, 4]
    assert nearest_resize(labels, (1, 12))[0, 0].tolist() == sorted([*range(6)] * 2)
    assert np.array_equal(nearest_resize(labels[0], (1, 2)), nearest_resize(labels, (1, 2))[0])
    assert nearest_resize(labels, (1, 6)) is labels


def test_short_side_keeps_the_aspect_ratio() -> None:
    rng = np.random.default_rng(0)
    assert ResizeShortSide(30)(coordinates(60, 107), rng).video.shape[1:3] == (30, 54)
    assert ResizeShortSide(30)(coordinates(107, 60), rng).video.shape[1:3] == (54, 30)


@given(st.integers(4, 40), st.integers(0, 60), st.integers(4, 40))
def test_long_side_rounded_down(short: int, more: int, size: int) -> None:
    rng = np.random.default_rng(0)
    for shape in ((short, short + more), (short + more, short)):
        down = ResizeShortSide(size, long_side="down")(coordinates(*shape, T=1), rng)
        H, W = down.video.shape[1:3]
        assert min(H, W) == size
        assert max(H, W) == (short + more) * size // short
        assert down.labels is not None
        assert down.labels.shape[1:] == (H, W)


def test_long_side_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match=r"long_side=up: choose one of: down, nearest"):
        ResizeShortSide(4, long_side="up")


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(40, 90), (13, 21)])
def test_bicubic_is_rounded_once(size: tuple[int, int], antialias: bool) -> None:
    """Black and white pixels overshoot most: what is cut off too early is lost."""
    video = np.random.default_rng(0).integers(0, 2, (1, 32, 48, 3), dtype=np.uint8) * 255
    clip = coordinates(32, 48, T=1)._replace(video=video)
    out = Resize(size, "bicubic", antialias)(clip, np.random.default_rng(0)).video
    pixels = torch.from_numpy(video).permute(0, 3, 1, 2).double()
    exact = F.interpolate(pixels, size, mode="bicubic", antialias=antialias).clamp(0, 255)
    assert np.abs(out - exact.permute(0, 2, 3, 1).numpy()).max() < 0.501


def test_antialias_and_interpolation_matter() -> None:
    clip = coordinates(64, 64)
    video = np.random.default_rng(0).integers(0, 256, clip.video.shape, dtype=np.uint8)
    clip, rng = clip._replace(video=video), np.random.default_rng(0)
    smooth, rough, cubic = (
        Resize(16, **options)(clip, rng).video.astype(float)
        for options in ({}, {"antialias": False}, {"interpolation": "bicubic"})
    )
    assert smooth.std() < cubic.std() < rough.std()


def test_arguments_and_sizes_that_cannot_be() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"CenterCrop of 9 x 9 does not fit frames of 8 x 20"):
        CenterCrop(9)(coordinates(8, 20), rng)
    with pytest.raises(ConfigError, match=r"size=\[1, 2, 3\]: expected one number"):
        Resize([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"interpolation=bilinaer: did you mean: bilinear"):
        Resize(3, interpolation="bilinaer")
    with pytest.raises(ConfigError, match=r"scale="):
        RandomResizedCrop(3, scale=(0.5, 2.0))
    with pytest.raises(ConfigError, match=r"ratio="):
        RandomResizedCrop(3, ratio=(2.0, 1.0))
    with pytest.raises(ConfigError, match=r"p=2"):
        HorizontalFlip(2)


def test_hint_that_is_a_picture_is_refused() -> None:
    clip = coordinates(8, 10)
    clip.hints["flow"] = np.zeros((3, 8, 10, 2), dtype=np.float32)
    clip.hints["visibility"] = np.zeros((3, 2), dtype=np.float32)
    for transform in (CenterCrop(4), HorizontalFlip(1), Resize(4)):
        with pytest.raises(ConfigError, match=r"cannot move the hint 'flow'"):
            transform(clip, np.random.default_rng(0))
