from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.functional import (
    active_classes,
    adjusted_rand_index,
    best_overlap,
    contingency,
    hungarian_iou,
    label_count,
    pairwise_iou,
)


def labels(*frames: str) -> np.ndarray:
    """Frames such as "0011/2222", rows separated by a slash: uint8 (T, H, W)."""
    return np.array([[list(row) for row in f.split("/")] for f in frames]).astype(np.uint8)


TRUTH = labels(*["0011/0011/2222"] * 2)
CASE_A = labels(*["0011/0012/2222"] * 2)
CASE_B = labels("0011/0012/2222", "0022/0022/1111")


def scores(truth, prediction):
    """ARI, FG-ARI, mBO, mBO fg, mIoU, mIoU fg of (..., C, K) tables made from label maps."""
    frames = contingency(truth, prediction, 3, 3)
    rows = []
    for table in (frames, frames.sum(0)):
        objects = table[..., 1:, :]
        every, fg = pairwise_iou(table), pairwise_iou(objects, outside=table[..., 0, :])
        rows.append(
            [
                adjusted_rand_index(table),
                adjusted_rand_index(objects),
                best_overlap(every, active_classes(table)),
                best_overlap(fg, active_classes(objects)),
                hungarian_iou(every, active_classes(table)),
                hungarian_iou(fg, active_classes(objects)),
            ]
        )
    return np.array([x.mean() for x in rows[0]]), np.array(rows[1], dtype=np.float64)


def exact_ari(table) -> float:
    """The same ratio in exact rational arithmetic."""
    counts = [[int(x) for x in row] for row in table]
    rows = [sum(row) for row in counts]
    columns = [sum(column) for column in zip(*counts, strict=True)]
    n = sum(rows)
    r = sum(x * (x - 1) for row in counts for x in row)
    a, b = sum(x * (x - 1) for x in rows), sum(x * (x - 1) for x in columns)
    expected, highest = Fraction(a * b, max(n * (n - 1), 1)), Fraction(a + b, 2)
    return 1.0 if expected == highest else float((r - expected) / (highest - expected))


def test_contingency_by_hand():
    table = contingency(TRUTH[:1], CASE_A[:1], 3, 3)
    assert table.dtype == np.int64
    assert table.tolist() == [[[4, 0, 0], [0, 3, 1], [0, 0, 4]]]
    t = table[0]
    assert (t * (t - 1)).sum() == 30
    assert adjusted_rand_index(t) == pytest.approx((30 - 36 * 38 / 132) / (37 - 36 * 38 / 132))


def test_contingency_drops_ignored_pixels_and_keeps_empty_classes():
    truth = labels("0011/0011")
    truth[0, 0] = 255
    table = contingency(truth, labels("2222/0111"), 4, 3)
    assert table.tolist() == [[[1, 1, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]]
    assert label_count(truth) == 2
    assert label_count(np.full((2, 2), 255, np.uint8)) == 0
    assert (
        contingency(np.full((1, 2, 2), 254, np.uint8), labels("01/10"), 255, 2)[0, 254].sum() == 4
    )


@pytest.mark.parametrize(
    ("num_classes", "num_slots", "message"),
    [(2, 3, r"num_classes=2 .* try num_classes=3"), (3, 2, r"num_slots=2 .* try num_slots=3")],
)
def test_contingency_names_the_right_count(num_classes, num_slots, message):
    with pytest.raises(ValueError, match=message):
        contingency(TRUTH, CASE_A, num_classes, num_slots)


def test_contingency_refuses_other_types_and_shapes():
    with pytest.raises(TypeError, match="uint8"):
        contingency(TRUTH.astype(np.int64), CASE_A, 3, 3)
    with pytest.raises(ValueError, match="one shape"):
        contingency(TRUTH[:1], CASE_A, 3, 3)


@pytest.mark.parametrize(
    ("prediction", "frame", "video"),
    [
        (CASE_A, [0.737201, 0.494845, 0.85, 0.775], [0.763583, 0.533333, 0.85, 0.775]),
        (CASE_B, [0.868601, 0.747423, 0.925, 0.8875], [0.462736, -0.053512, 0.593434, 0.390152]),
    ],
)
def test_two_frames_worked_by_hand(prediction, frame, video):
    got_frame, got_video = scores(TRUTH, prediction)
    np.testing.assert_allclose(got_frame[:4], frame, atol=5e-7)
    np.testing.assert_allclose(got_video[:4], video, atol=5e-7)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ("0000/0000", "0011/0011", [0, 1, 0.5, np.nan, 0.5, np.nan]),  # no object
        ("0011/0011", "0011/0022", [0.695652, 0, 0.75, 0.5, 0.75, 0.5]),  # object split
        ("0000/0010", "0000/0000", [0, 1, 0.5, 0.125, 0.4375, 0.125]),  # one-pixel object missed
        ("0000/0010", "0000/0011", [0.461538, 1, 0.678571, 0.5, 0.678571, 0.5]),
    ],
)
def test_one_frame_worked_by_hand(truth, prediction, expected):
    frame, video = scores(labels(truth), labels(prediction))
    np.testing.assert_allclose(frame, expected, atol=5e-7)
    np.testing.assert_allclose(video, expected, atol=5e-7)


def test_object_in_one_frame_only_predicted_perfectly_scores_one():
    truth = labels("0110/0110", "0000/0000")
    for sample in scores(truth, truth):
        np.testing.assert_array_equal(sample[:3], 1)
    _, video = scores(truth, truth)
    np.testing.assert_array_equal(video, 1)


@pytest.mark.parametrize(
    ("columns", "iou", "with_background"), [(3, 0.75, 0.836538), (2, 0.5, 0.678571)]
)
def test_best_overlap_of_a_cut_square_with_background(columns, iou, with_background):
    truth, prediction = np.zeros((2, 1, 8, 8), np.uint8)
    truth[:, 1:5, 1:5] = 1
    prediction[:, 1:5, 1 : 1 + columns] = 1
    table = contingency(truth, prediction, 2, 2)
    pairs = pairwise_iou(table)
    assert pairs[0, 1, 1] == pytest.approx(iou, abs=5e-7)
    assert best_overlap(pairs, active_classes(table))[0] == pytest.approx(with_background, abs=5e-7)


def test_class_iou_on_the_diagonal():
    table = contingency(TRUTH[:1], CASE_A[:1], 3, 3)[0]
    assert np.trace(table) / table.sum() == pytest.approx(0.916667, abs=5e-7)
    assert np.diag(pairwise_iou(table)).mean() == pytest.approx(0.85)


def test_fewer_slots_than_classes_leave_classes_unmatched():
    table = np.diag([4, 4, 4])[:, :2]
    iou, active = pairwise_iou(table), active_classes(table)
    np.testing.assert_array_equal(active, [True, True, False])
    assert hungarian_iou(iou, active) == 1.0
    assert hungarian_iou(np.ones((3, 2)), np.ones(3, bool)) == pytest.approx(2 / 3)


def test_a_sample_without_active_class_has_no_score():
    table = np.zeros((2, 3, 4), np.int64)
    assert np.isnan(best_overlap(pairwise_iou(table), active_classes(table))).all()
    assert np.isnan(hungarian_iou(pairwise_iou(table), active_classes(table))).all()
    np.testing.assert_array_equal(adjusted_rand_index(table), [1.0, 1.0])


@pytest.mark.parametrize("case", [13, 19, 20, 21, 22])
def test_reference_tables(golden, case):
    key = f"slot_{case:03d}_"
    truth, prediction = golden[key + "gt"], golden[key + "pred"]
    num_classes, num_slots = golden["slot_CK"][case]
    frames = np.stack(
        [contingency(g, p, num_classes, num_slots) for g, p in zip(truth, prediction, strict=True)]
    )
    for table, ari, iou in (
        (frames.sum(1), "ari", "iouvid"),
        (np.concatenate(frames), "ariimg", "iouimg"),
    ):
        np.testing.assert_allclose(
            adjusted_rand_index(table), golden[f"{key}{ari}_all"], atol=1e-12
        )
        fg = adjusted_rand_index(table[:, 1:])
        np.testing.assert_allclose(fg, golden[f"{key}{ari}_fg"], atol=1e-12)
        np.testing.assert_allclose(pairwise_iou(table), golden[key + iou], atol=1e-6)


small_maps = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=40, deadline=None)
@given(small_maps)
def test_predictions_on_ignored_pixels_do_not_matter(rng):
    truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), (2, 6, 7))
    first = rng.integers(0, 5, truth.shape, dtype=np.uint8)
    other = np.where(truth == 255, rng.integers(0, 5, truth.shape, dtype=np.uint8), first)
    np.testing.assert_array_equal(contingency(truth, first, 3, 5), contingency(truth, other, 3, 5))


@settings(max_examples=40, deadline=None)
@given(small_maps, st.integers(1, 5), st.integers(1, 5))
def test_one_to_one_never_beats_best_overlap(rng, num_classes, num_slots):
    table = rng.integers(0, 20, (num_classes, num_slots))
    table[0, 0] += 1
    iou, active = pairwise_iou(table), active_classes(table)
    assert 0 <= hungarian_iou(iou, active) <= best_overlap(iou, active) + 1e-12 <= 1 + 1e-12


@pytest.mark.parametrize("n", [65_536, 100_000, 480 * 854, 24 * 256 * 256, 480 * 854 * 104])
def test_large_counts_do_not_overflow(n):
    rng = np.random.default_rng(n)
    table = np.round((rng.random((11, 11)) ** 3 + 3 * np.eye(11)) * n / 100).astype(np.int64)
    assert adjusted_rand_index(table) == pytest.approx(exact_ari(table), abs=1e-12)
    for perfect in (np.diag(table.sum(1)), np.array([[n]])):
        assert adjusted_rand_index(perfect) == 1.0
