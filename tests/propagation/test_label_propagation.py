"""A model as a tracker: laws of whole videos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.types import VideoInfo
from tests.propagation.helpers import (
    CELL,
    EXACT,
    GRID,
    OPTIONS,
    SIZE,
    cells,
    rectangles,
    run,
    sliding,
    small,
    texture,
    tracker,
)


def test_what_moves_is_followed() -> None:
    labels = rectangles()
    for t, prediction in enumerate(run(tracker(**EXACT), sliding(9), labels=labels)):
        assert prediction.labels is not None
        assert prediction.labels.shape == SIZE
        expected = np.roll(cells(labels), t, axis=1)
        np.testing.assert_array_equal(cells(prediction.labels), expected)


def test_a_small_window_follows_through_the_frames_between() -> None:
    """What has moved further than the window is found in the frame before, not in frame 0."""
    labels = rectangles()
    model = tracker(**{**EXACT, "radius": 1}, recent_frames=1)
    for t, prediction in enumerate(run(model, sliding(6), labels=labels)):
        expected = np.roll(cells(labels), t, axis=1)
        # what came back on the left is new to the window
        np.testing.assert_array_equal(cells(prediction.labels)[:, t:], expected[:, t:])


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
