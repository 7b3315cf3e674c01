"""What must hold for any label maps, and on whatever device they lie."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from slotreel.metrics.boundary import (
    boundary_accuracy,
    boundary_map,
    dilate,
    region_similarity,
    sequence_statistics,
)
from slotreel.metrics.functional import (
    active_classes,
    adjusted_rand_index,
    best_overlap,
    contingency,
    hungarian_iou,
    joint_counts,
    label_count,
    pairwise_iou,
)
from slotreel.metrics.pairs import matched_scores, pair_scores, proposal_scores
from tests.label_maps import blocks, rename

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
law = settings(max_examples=25, deadline=None)


def slot_scores(table):
    iou, active = pairwise_iou(table), active_classes(table)
    return [adjusted_rand_index(table), best_overlap(iou, active), hungarian_iou(iou, active)]


@law
@given(generators, st.integers(1, 6), st.integers(1, 7))
def test_names_of_slots_and_classes_do_not_matter(rng, num_classes, num_slots):
    truth = blocks(rng, num_classes, (3, 13, 18), void=0.1)
    prediction = blocks(rng, num_slots, truth.shape)
    other = contingency(
        rename(truth, rng.permutation(num_classes)),
        rename(prediction, rng.permutation(num_slots)),
        num_classes,
        num_slots,
    )
    table = contingency(truth, prediction, num_classes, num_slots)
    for one, renamed in ((table, other), (table.sum(0), other.sum(0))):
        np.testing.assert_allclose(slot_scores(one), slot_scores(renamed), rtol=1e-12)


@law
@given(generators, st.integers(0, 5))
def test_tables_of_parts_add_up(rng, cut):
    truth = blocks(rng, 4, (5, 9, 14), void=0.2)
    prediction = blocks(rng, 6, truth.shape)
    whole = joint_counts(truth, prediction, 4, 6)
    halves = [
        joint_counts(t, p, 4, 6)
        for t, p in ((truth[:cut], prediction[:cut]), (truth[cut:], prediction[cut:]))
    ]
    np.testing.assert_array_equal(np.concatenate(halves), whole)
    rows = [joint_counts(truth[:, y], prediction[:, y], 4, 6) for y in (slice(4), slice(4, None))]
    np.testing.assert_array_equal(sum(rows), whole)
    assert whole.sum() == truth.size


@law
@given(generators, st.integers(1, 5), st.integers(1, 5))
def test_ignored_pixels_around_a_frame_change_nothing(rng, below, right):
    truth = blocks(rng, 4, (2, 10, 11))
    prediction = blocks(rng, 5, truth.shape)
    edge = ((0, 0), (0, below), (0, right))
    padded = np.pad(truth, edge, constant_values=255)
    filled = rng.integers(0, 5, padded.shape, dtype=np.uint8)
    filled[:, :10, :11] = prediction
    table = contingency(truth, prediction, 4, 5)
    np.testing.assert_array_equal(table, contingency(padded, filled, 4, 5))


@law
@given(generators, st.integers(2, 40))
def test_only_decay_knows_the_order_of_frames(rng, num_frames):
    scores = np.sort(rng.random((2, num_frames)))
    order = rng.permutation(num_frames)
    one, other = sequence_statistics(scores), sequence_statistics(scores[:, order])
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
    np.testing.assert_array_equal(one.recall, other.recall)
    assert (one.decay < 0).all()
    backward = sequence_statistics(scores[:, ::-1]).decay
    assert (backward > 0).all()
    truth = blocks(rng, 3, (num_frames, 5, 6))
    prediction = blocks(rng, 4, truth.shape)
    tables = [contingency(truth[x], prediction[x], 3, 4) for x in (slice(None), order)]
    np.testing.assert_array_equal(tables[0][order], tables[1])


def test_random_labels_of_a_long_clip_score_zero():
    truth, prediction = np.random.default_rng(0).integers(0, 11, (2, 24, 256, 256), dtype=np.uint8)
    frames = contingency(truth, prediction, 11, 11)
    assert abs(adjusted_rand_index(frames.sum(0))) < 1e-3
    assert (np.abs(adjusted_rand_index(frames)) < 1e-3).all()


@law
@given(generators, st.integers(1, 6), st.integers(1, 6))
def test_ari_agrees_with_scikit_learn(rng, num_classes, num_slots):
    table = rng.integers(0, 9, (num_classes, num_slots)) * rng.integers(0, 2, (num_classes, 1))
    points = np.repeat(np.indices(table.shape).reshape(2, -1), table.ravel(), axis=1)
    truth, prediction = points.astype(np.uint8)
    np.testing.assert_array_equal(
        contingency(truth[None], prediction[None], num_classes, num_slots)[0], table
    )
    expected = adjusted_rand_score(truth, prediction)
    assert adjusted_rand_index(table) == pytest.approx(expected, abs=1e-12)


def test_ten_million_pixels_are_counted_and_scored_exactly():
    rng = np.random.default_rng(3)
    truth = blocks(rng, 11, (24, 480, 854))
    prediction = np.where(rng.random(truth.shape, np.float32) < 0.2, 10 - truth, truth)
    prediction = prediction.astype(np.uint8)
    table = contingency(truth, prediction, 11, 11).sum(0)
    expected = [[int(np.sum((truth == c) & (prediction == k))) for k in (3, 7)] for c in (3, 7)]
    assert table[np.ix_((3, 7), (3, 7))].tolist() == expected
    n, counts = truth.size, [[int(x) for x in row] for row in table]
    assert sum(map(sum, counts)) == n == 24 * 480 * 854
    together = sum(x * (x - 1) for row in counts for x in row)
    rows, slots = ([sum(x) for x in side] for side in (counts, zip(*counts, strict=True)))
    a, b = (sum(x * (x - 1) for x in side) for side in (rows, slots))
    chance = Fraction(a * b, n * (n - 1))
    ari = (together - chance) / (Fraction(a + b, 2) - chance)
    assert adjusted_rand_index(table) == pytest.approx(float(ari), abs=1e-12)
    best = [
        max(Fraction(x, rows[c] + slots[k] - x) for k, x in enumerate(row))
        for c, row in enumerate(counts)
    ]
    mbo = best_overlap(pairwise_iou(table), active_classes(table))
    assert mbo == pytest.approx(float(sum(best) / len(best)), abs=1e-12)


def every_result(truth, prediction, masks):
    """All that looks at pixels: (name, result) pairs."""
    one, other, void = truth == 1, prediction == 1, truth == 255
    return {
        "label_count": label_count(truth),
        "joint_counts": joint_counts(truth, prediction, 5, 7),
        "region": region_similarity(one, other, void),
        "boundary": boundary_accuracy(one, other, void, 0.05),
        "edges": boundary_map(other),
        "dilate": dilate(other, 3),
        "pairs": pair_scores(truth, prediction, 3, 6, 0.05),
        "matched": matched_scores(truth, prediction, 6, 0.05),
        "removed": matched_scores(truth, prediction, 6, 0.05, void="removed"),
        "proposals": proposal_scores(truth[0], masks, 3, 0.05),
    }


def assert_same(one, other):
    for (name, x), y in zip(one.items(), other.values(), strict=True):
        np.testing.assert_array_equal(
            np.asarray(x), y.cpu() if isinstance(y, torch.Tensor) else np.asarray(y), name
        )


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_and_tensors_give_the_same(device):
    rng = np.random.default_rng(5)
    truth, prediction = blocks(rng, 5, (40, 21, 34), void=0.1), blocks(rng, 7, (40, 21, 34))
    masks = rng.random((11, 21, 34)) < 0.3
    expected = every_result(truth, prediction, masks)
    assert all(isinstance(x, (int, tuple, np.ndarray)) for x in expected.values())
    tensors = [torch.from_numpy(x).to(device) for x in (truth, prediction, masks)]
    before = [x.clone() for x in tensors]
    got = every_result(*tensors)
    assert_same(expected, got)
    assert got["edges"].device.type == got["dilate"].device.type == device
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True))
    np.testing.assert_array_equal(
        expected["joint_counts"], joint_counts(truth, tensors[1], 5, 7), "one side each"
    )


def test_arrays_may_be_read_only_or_views(recwarn):
    rng = np.random.default_rng(6)
    maps = (
        blocks(rng, 5, (3, 9, 14), void=0.1),
        blocks(rng, 7, (3, 9, 14)),
        rng.random((4, 9, 14)) < 0.3,
    )
    expected = every_result(*maps)
    assert_same(expected, every_result(*(x[..., ::-1].copy()[..., ::-1] for x in maps)))
    for x in maps:
        x.flags.writeable = False
    torch.set_warn_always(True)  # else torch warns in the first test that gives it a reason only
    try:
        assert_same(expected, every_result(*maps))
    finally:
        torch.set_warn_always(False)
    assert not recwarn.list


@pytest.mark.parametrize("at", [(0, 0), (0, 8), (6, 0), (6, 8), (3, 4)])
def test_an_object_of_one_pixel(at):
    truth = np.zeros((7, 9), np.uint8)
    truth[at] = 1
    assert boundary_map(truth == 1).any()
    assert matched_scores(truth, truth, 1) == (1, 1)
    nothing = np.zeros_like(truth)
    assert matched_scores(truth, nothing, 1) == (0, 0)
    np.testing.assert_array_equal(slot_scores(contingency(truth[None], truth[None], 2, 2)), 1)
    missed = contingency(truth[None], nothing[None], 2, 1)[0]
    assert adjusted_rand_index(missed) == 0
    objects = missed[1:]
    iou = pairwise_iou(objects, outside=missed[0])
    assert best_overlap(iou, active_classes(objects)) == 1 / 63
