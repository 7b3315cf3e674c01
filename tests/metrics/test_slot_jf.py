import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from slotreel.metrics.slot_jf import SlotJF, _boundary
from slotreel.types import VideoInfo


def run(truth, prediction):
    metric = SlotJF()
    metric.start(VideoInfo("clip", len(truth), truth.shape[1:]))
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    return metric.finish()


def square(top):
    """16x16: the square is 2, the rest 1; both are objects."""
    labels = np.ones((1, 16, 16), np.uint8)
    labels[:, top : top + 8, 4:12] = 2
    return labels


def test_square_one_row_lower():
    row = run(square(4), square(5))
    assert row["slot_j"] == (pytest.approx(0.848889, abs=1e-6), 1)
    assert row["slot_f"] == (pytest.approx(0.656250, abs=1e-6), 1)
    assert row["slot_jf"] == (pytest.approx(0.752569, abs=1e-6), 1)


def test_an_object_that_is_away_half_of_the_time_loses_half():
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 1:4, 1:4] = 1
    truth[0, 5:7, 5:7] = 2
    assert run(truth, truth) == {name: (0.75, 1) for name in ("slot_j", "slot_f", "slot_jf")}


@pytest.mark.parametrize("case", [*range(16), *range(19, 31)])
def test_reference_scores(golden, case):
    fields = golden["slot_fields"].tolist()
    key = f"slot_{case:03d}_"
    rows = [run(*pair) for pair in zip(golden[key + "gt"], golden[key + "pred"], strict=True)]
    for name, field in (("j", "J"), ("f", "F"), ("jf", "JF")):
        total, count = (sum(row[f"slot_{name}"][i] for row in rows) for i in (0, 1))
        want = golden["slot_values"][case, fields.index(f"VideoJandF_{field}_fg")]
        got = total / count if count else np.nan
        assert got == pytest.approx(want, abs=1e-6, nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70))
def test_boundaries_of_all_labels_at_once(seed, height, width):
    """Against each mask on its own, void taken out of it first."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (1, -(-height // 7), -(-width // 7)), dtype=np.uint8)
    labels = labels.repeat(7, 1).repeat(7, 2)[:, :height, :width]
    void = rng.random(labels.shape) < 0.01
    reach = max(1, round(0.02 * np.hypot(height, width)))
    together = _boundary(labels, void)[0]
    for label in range(3):
        mask = ((labels == label) & ~void)[0]
        alone = mask & ~binary_erosion(mask, np.ones((2 * reach + 1,) * 2), border_value=0)
        np.testing.assert_array_equal(together & mask, alone)


def test_void_leaves_both_sides():
    truth, prediction = square(4), square(4)
    truth[:, :, :2] = 255
    prediction[:, :, :2] = 3
    assert run(truth, prediction)["slot_jf"] == (1, 1)
    void = np.full((2, 4, 4), 255, np.uint8)
    assert set(run(void, np.zeros_like(void)).values()) == {(0, 0)}


def test_videos_without_object_or_frame_have_no_score():
    empty = np.zeros((2, 4, 4), np.uint8)
    assert set(run(empty, empty).values()) == {(0, 0)}
    assert set(run(empty[:0], empty[:0]).values()) == {(0, 0)}


def test_one_pixel_object_and_torch():
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 3, 3] = 1
    assert run(truth, truth)["slot_jf"] == (1, 1)
    as_torch = torch.from_numpy(square(4)), torch.from_numpy(square(5))
    assert run(*as_torch) == run(square(4), square(5))


def test_errors_say_what_to_do():
    metric = SlotJF()
    with pytest.raises(RuntimeError, match="start"):
        metric.update(square(4)[0], square(4)[0], 0)
    metric.start(VideoInfo("clip", 1, (16, 16)))
    with pytest.raises(ValueError, match=r"video 'clip', frame 3: .*one size"):
        metric.update(square(4)[0, 1:], square(4)[0], 3)
    with pytest.raises(TypeError, match=r"video 'clip', frame 3: .*astype"):
        metric.update(square(4)[0].astype(int), square(4)[0], 3)
