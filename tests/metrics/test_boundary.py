import math

import numpy as np
import pytest

from slotreel.metrics.boundary import (
    boundary_accuracy,
    boundary_map,
    dilate,
    region_similarity,
    sequence_statistics,
    tolerance_radius,
)


def box(rows, columns, size=(8, 8)):
    mask = np.zeros(size, bool)
    mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
    return mask


def pixel(y, x):
    return box((y, y), (x, x))


EMPTY, FULL = np.zeros((8, 8), bool), np.ones((8, 8), bool)
SQUARE = box((2, 5), (2, 5))
RIGHT = [np.roll(SQUARE, k, axis=1) for k in range(4)]  # the third wraps to column 0

SQUARES = [
    # truth, prediction, void, J, F, F with bound_th=2
    (SQUARE, RIGHT[0], None, 1, 1, 1),
    (SQUARE, RIGHT[1], None, 0.6, 1, 1),
    (SQUARE, RIGHT[2], None, 0.333333, 0.689655, 1),
    (SQUARE, RIGHT[3], None, 0.142857, 0.875, 1),
    (SQUARE, RIGHT[1], box((2, 5), (6, 6)), 0.75, 1, None),
    (SQUARE, RIGHT[1], box((2, 5), (5, 5)), 0.5, 0.871795, None),
    (SQUARE, RIGHT[1], FULL, 1, 1, None),
    (EMPTY, SQUARE, None, 0, 0, None),
    (SQUARE, EMPTY, None, 0, 0, None),
    (EMPTY, EMPTY, None, 1, 1, None),
    (FULL, EMPTY, None, 0, 1, None),
    (pixel(3, 3), pixel(3, 3), None, 1, 1, None),
    (pixel(3, 3), SQUARE, None, 0.0625, 0.375, None),
    (pixel(3, 3), pixel(3, 4), None, 0, 1, None),
    (pixel(3, 3), pixel(3, 5), None, 0, 0.5, None),
    (pixel(3, 3), pixel(3, 6), None, 0, 0, None),
]


@pytest.mark.parametrize(("truth", "prediction", "void", "j", "f", "f2"), SQUARES)
def test_squares_worked_by_hand(truth, prediction, void, j, f, f2):
    assert region_similarity(truth, prediction, void) == pytest.approx(j, abs=5e-7)
    assert boundary_accuracy(truth, prediction, void) == pytest.approx(f, abs=5e-7)
    if f2 is not None:
        assert boundary_accuracy(truth, prediction, void, bound_th=2) == pytest.approx(f2, abs=5e-7)


def test_a_hole_in_a_full_frame_has_no_boundary_to_meet():
    hole = FULL.copy()
    hole[3, 3] = False
    assert region_similarity(FULL, hole) == pytest.approx(63 / 64)
    assert boundary_accuracy(FULL, hole) == 0


def test_frames_are_scored_side_by_side():
    truth, prediction = np.stack([SQUARE] * 3), np.stack(RIGHT[:3])
    np.testing.assert_allclose(region_similarity(truth, prediction), [1, 0.6, 1 / 3])
    np.testing.assert_allclose(boundary_accuracy(truth, prediction), [1, 1, 0.689655], atol=5e-7)


@pytest.mark.parametrize(
    ("at", "edges"),
    [
        ((3, 3), [(2, 2), (2, 3), (3, 2), (3, 3)]),
        ((0, 0), [(0, 0)]),
        ((7, 7), [(6, 6), (6, 7), (7, 6)]),
    ],
)
def test_boundary_of_one_pixel(at, edges):
    assert [tuple(x) for x in np.argwhere(boundary_map(pixel(*at)))] == edges


def test_boundary_of_the_square_has_16_pixels():
    assert boundary_map(SQUARE).sum() == 16
    assert not boundary_map(FULL).any()


SIZES = "224x224 256x256 336x336 480x640 480x854 480x910 518x518 480x1152 720x1280 1080x1920"
RADII = [3, 3, 4, 7, 8, 9, 6, 10, 12, 18]


@pytest.mark.parametrize(("size", "radius"), list(zip(SIZES.split(), RADII, strict=True)))
def test_tolerance_radius(size, radius):
    assert tolerance_radius(*map(int, size.split("x"))) == radius


def test_tolerance_radius_in_pixels_and_refusals(golden):
    assert tolerance_radius(8, 8, bound_th=5) == 5
    for wrong in (0, -1, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"try bound_th=0\.008"):
            tolerance_radius(8, 8, wrong)
    got = [tolerance_radius(int(h), int(w)) for h, w in golden["bound_hw"]]
    assert got == golden["bound_pix"].tolist()


def test_disks_have_the_right_pixels():
    centre = np.zeros((21, 21), bool)
    centre[10, 10] = True
    assert dilate(centre, 8).sum() == 197
    assert dilate(centre, 1).sum() == 5
    np.testing.assert_array_equal(dilate(centre, 0), centre)


def test_reference_pairs(golden):
    assert len(golden["pair_cases"]) == 50
    for row, case in enumerate(golden["pair_cases"]):
        key = f"pair_{case:03d}_"
        truth, prediction, void = (golden.get(key + x) for x in ("gt", "pred", "void"))
        assert region_similarity(truth, prediction, void) == golden["pair_J"][row], key
        for th, f in zip(golden["pair_Fth"], golden["pair_F"][row], strict=True):
            assert boundary_accuracy(truth, prediction, void, th) == pytest.approx(f, abs=1e-15), (
                key
            )
        seen = np.ones_like(truth) if void is None else ~void
        for mask, name in ((truth, "bgt"), (prediction, "bpred")):
            if key + name in golden:
                np.testing.assert_array_equal(boundary_map(mask & seen), golden[key + name])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], (0.55, 0.5, 0.5)),
        ([1, 0.5, 0.5, 0], (0.5, 0.25, 0.5)),
        ([0.9, 0.6, 0.51, 0.5], (0.6275, 0.75, 0.245)),
        ([0.7], (0.7, 1, 0)),
    ],
)
def test_statistics_worked_by_hand(values, expected):
    np.testing.assert_allclose(sequence_statistics(np.array(values, dtype=np.float64)), expected)


def decay_edges(num_frames):
    """Edges read off the decay itself: which frames enter the first and the last bin."""
    decay = sequence_statistics(np.eye(num_frames)).decay
    return np.flatnonzero(decay > 0), np.flatnonzero(decay < 0)


@pytest.mark.parametrize(
    ("num_frames", "first", "last"), [(8, 2, 5), (4, 1, 2), (48, 12, 35), (600, 150, 449)]
)
def test_quarters_include_both_edges(num_frames, first, last):
    begin, end = decay_edges(num_frames)
    assert begin.tolist() == list(range(first + 1))
    assert end.tolist() == list(range(last, num_frames))


@pytest.mark.parametrize("num_frames", range(1, 700, 13))
def test_quarters_round_halves_up(num_frames):
    edges = [math.floor(1 + k * (num_frames - 1) / 4 + 0.5) - 1 for k in range(5)]
    x = np.random.default_rng(num_frames).random(num_frames)
    expected = x[: edges[1] + 1].mean() - x[edges[3] :].mean()
    assert sequence_statistics(x).decay == pytest.approx(expected, abs=1e-12)


def test_reference_statistics(golden):
    ends = np.cumsum(golden["stat_len"])
    for end, length, expected in zip(ends, golden["stat_len"], golden["stat_MRD"], strict=True):
        got = np.array(sequence_statistics(golden["stat_x"][end - length : end]))
        known = ~np.isnan(expected)  # the reference has no decay from 256 frames on
        assert known[2] == (length < 256)
        np.testing.assert_allclose(got[known], expected[known], atol=1e-12)
        assert np.isfinite(got).all()


def test_statistics_of_several_objects_and_of_nothing():
    x = np.random.default_rng(0).random((3, 17))
    together = sequence_statistics(x)
    for i in range(3):
        alone = sequence_statistics(x[i])
        np.testing.assert_allclose([field[i] for field in together], alone)
    holes = np.array([np.nan, 0.4, 0.8, np.nan])
    assert sequence_statistics(holes).mean == pytest.approx(0.6)
    with pytest.raises(ValueError, match="at least one frame"):
        sequence_statistics(np.zeros((2, 0)))


# Semi-supervised protocol on 6 frames of 24x32: first and last frame dropped, void = background.
SIZE = (24, 32)
ONE, TWO = box((4, 11), (4, 13), SIZE), box((10, 19), (16, 27), SIZE)


def scene(one=range(6), two=range(6), ids=(1, 2), shift=0):
    frames = np.zeros((6, *SIZE), np.uint8)
    for mask, shown, number in ((ONE, one, ids[0]), (TWO, two, ids[1])):
        frames[list(shown)] = np.where(np.roll(mask, shift, axis=1), number, frames[list(shown)])
    return frames


def semi(truth, prediction):
    truth = np.where(truth == 255, 0, truth)
    rows = []
    for number in range(1, truth[0].max() + 1):
        g, p = truth[1:-1] == number, prediction[1:-1] == number
        rows.append((region_similarity(g, p), boundary_accuracy(g, p)))
    j, f = (sequence_statistics(np.array(x)) for x in zip(*rows, strict=True))
    return j.mean, f.mean, j.recall, j.decay


def void_case():
    truth, prediction = scene(), scene()
    truth[:, 4:12, 14:17] = 255
    prediction[:, 4:12, 14:17] = 1
    return truth, prediction


def late_case():
    truth = scene()
    truth[2:, :3, :3] = 3
    return truth, scene()


SEMI = {
    "one pixel to the right": (
        scene(),
        scene(shift=1),
        [(0.818182, 0.846154), (1, 1), (1, 1), (0, 0)],
    ),
    "ids swapped": (scene(), scene(ids=(2, 1)), [(0, 0)] * 4),
    "2 leaves, prediction follows": (
        scene(two=range(3)),
        scene(two=range(3)),
        [(1, 1), (1, 1), (1, 1), (0, 0)],
    ),
    "2 leaves, prediction keeps it": (
        scene(two=range(3)),
        scene(),
        [(1, 0.5), (1, 0.5), (1, 0.5), (0, 1)],
    ),
    "1 away in 2 and 3, lost from 2 on": (
        scene(one=(0, 1, 4, 5)),
        scene(one=(0, 1)),
        [(0.75, 1), (0.75, 1), (0.75, 1), (0.5, 0)],
    ),
    "1 in frame 0 only, empty": (
        scene(one=(0,)),
        scene(one=()),
        [(1, 1), (1, 1), (1, 1), (0, 0)],
    ),
    "1 in frame 0 only, kept": (scene(one=(0,)), scene(), [(0, 1), (0, 1), (0, 1), (0, 0)]),
    "void is background": (*void_case(), [(0.769231, 1), (0.794872, 1), (1, 1), (0, 0)]),
    "late id is ignored": (*late_case(), [(1, 1), (1, 1), (1, 1), (0, 0)]),
    "id 2 never used": (
        scene(ids=(1, 3)),
        scene(ids=(1, 2)),
        [(1, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)],
    ),
    "nothing predicted": (scene(), scene(one=(), two=()), [(0, 0)] * 4),
}


@pytest.mark.parametrize("case", SEMI)
def test_semi_supervised_worked_by_hand(case):
    truth, prediction, expected = SEMI[case]
    for got, want in zip(semi(truth, prediction), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=5e-7)
