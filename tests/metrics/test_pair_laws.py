"""What must hold for any masks: the laws of boundaries, J and F."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from scipy.optimize import linear_sum_assignment

from slotreel.metrics import functional, pairs
from slotreel.metrics.boundary import (
    boundary_accuracy,
    dilate,
    region_similarity,
)
from slotreel.metrics.functional import (
    joint_counts,
)
from slotreel.metrics.pairs import matched_scores, pair_scores, proposal_scores
from tests.label_maps import blocks, rename, scene

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
law = settings(max_examples=25, deadline=None)


@law
@given(generators, st.integers(1, 9), st.integers(1, 30), st.integers(0, 12))
def test_dilation_is_scipys_with_the_disk(rng, height, width, radius):
    masks = rng.random((2, height, width)) < 0.05
    steps = np.arange(-radius, radius + 1) ** 2
    disk = steps[:, None] + steps <= radius**2
    expected = np.stack([binary_dilation(x, disk) for x in masks])
    np.testing.assert_array_equal(dilate(masks, radius), expected)
    for kind in (np.uint8, np.int16, np.int32, np.int64):  # two masks as two bits of one map
        bits = (masks * kind([[[2]], [[np.iinfo(kind).max // 2 + 1]]])).sum(0, dtype=kind)
        reached = dilate(bits, radius)
        assert reached.dtype == kind
        np.testing.assert_array_equal(reached & 2 != 0, expected[0])
        np.testing.assert_array_equal(reached & (np.iinfo(kind).max // 2 + 1) != 0, expected[1])


@law
@given(generators, st.integers(1, 4), st.integers(1, 6))
def test_names_do_not_matter_to_the_best_assignment(rng, num_objects, num_proposals):
    truth, prediction = scene(rng, num_objects, num_proposals)
    truth[truth == num_objects + 1] = 0
    ids, slots = (1 + rng.permutation(n) for n in (num_objects, num_proposals))
    plain = pair_scores(truth, prediction, num_objects, num_proposals)
    named = pair_scores(
        rename(truth, [0, *ids]), rename(prediction, [0, *slots]), num_objects, num_proposals
    )
    for one, other in zip(plain, named, strict=True):
        np.testing.assert_array_equal(one[:, 1:], other[:, slots][:, :, ids - 1])
    best = [
        x[linear_sum_assignment(x, maximize=True)].sum()
        for x in (np.mean(j + f, axis=0)[1:] for j, f in (plain, named))
    ]
    assert best[0] == pytest.approx(best[1], abs=1e-12)


@law
@given(generators, st.integers(0, 4), st.sampled_from([0, 3, 20, 70]))
def test_all_pairs_at_once_equal_one_by_one(rng, num_objects, num_proposals):
    truth, prediction = scene(rng, num_objects, num_proposals)
    j, f = pair_scores(truth, prediction, num_objects, num_proposals, 0.1)
    assert j.shape == f.shape == (3, num_proposals + 1, num_objects)
    void = truth == 255
    for p in range(num_proposals + 1):
        mask = (prediction == p) & (p > 0)
        for n in range(num_objects):
            one = truth == n + 1
            np.testing.assert_array_equal(j[:, p, n], region_similarity(one, mask, void))
            expected = boundary_accuracy(one, mask, void, 0.1)
            np.testing.assert_allclose(f[:, p, n], expected, atol=1e-15)


@law
@given(generators, st.integers(0, 4))
def test_matched_scores_equal_one_by_one(rng, num_objects):
    truth, prediction = scene(rng, num_objects, num_objects)
    for rule, void in (("background", None), ("removed", truth == 255)):
        j, f = matched_scores(truth, prediction, num_objects, 0.1, void=rule)
        assert j.shape == f.shape == (3, num_objects)
        for n in range(num_objects):
            one, other = truth == n + 1, prediction == n + 1
            np.testing.assert_array_equal(j[:, n], region_similarity(one, other, void))
            expected = boundary_accuracy(one, other, void, 0.1)
            np.testing.assert_allclose(f[:, n], expected, atol=1e-15)


@law
@given(generators, st.integers(0, 3), st.integers(0, 19))
def test_overlapping_proposals_equal_one_by_one(rng, num_objects, num_proposals):
    truth = scene(rng, num_objects, 1, num_frames=1)[0][0]
    masks = blocks(rng, 2, (num_proposals, *truth.shape)).astype(bool)
    j, f = proposal_scores(truth, masks, num_objects, 0.1)
    assert j.shape == f.shape == (num_proposals + 1, num_objects)
    masks = np.concatenate([np.zeros((1, *truth.shape), bool), masks])
    for n in range(num_objects):
        one, void = (np.broadcast_to(truth == x, masks.shape) for x in (n + 1, 255))
        np.testing.assert_array_equal(j[:, n], region_similarity(one, masks, void))
        expected = boundary_accuracy(one, masks, void, 0.1)
        np.testing.assert_allclose(f[:, n], expected, atol=1e-15)


def test_proposals_that_do_not_overlap_are_a_label_map():
    rng = np.random.default_rng(7)
    truth, prediction = scene(rng, 3, 9, num_frames=1)
    masks = prediction == np.arange(1, 10)[:, None, None]
    for one, other in zip(
        proposal_scores(truth[0], masks, 3), pair_scores(truth[0], prediction[0], 3, 9), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("masks", [np.zeros((2, 5, 5), np.uint8), np.zeros((2, 5, 6), bool)])
def test_proposals_of_another_kind_are_refused(masks):
    with pytest.raises(ValueError, match=r"expected masks bool \(P, H, W\)"):
        proposal_scores(np.zeros((5, 5), np.uint8), masks, 1)


def test_frames_together_equal_frames_one_by_one(monkeypatch):
    rng = np.random.default_rng(8)
    truth, prediction = blocks(rng, 40, (12, 16, 22), void=0.1), blocks(rng, 80, (12, 16, 22))
    truth[0] = prediction[0] = truth[2] = prediction[4] = 0
    truth[1, :6] = prediction[1, :6] = 0
    alone = joint_counts(truth, prediction, 40, 80), pair_scores(truth, prediction, 38, 80, 2)
    for module in (functional, pairs):  # as on an accelerator
        monkeypatch.setattr(module, "in_steps", lambda *maps: iter([maps]))
    together = joint_counts(truth, prediction, 40, 80), pair_scores(truth, prediction, 38, 80, 2)
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1], together[1])
    single = [pair_scores(t, p, 38, 80, 2) for t, p in zip(truth, prediction, strict=True)]
    np.testing.assert_array_equal(np.swapaxes(single, 0, 1), together[1])


def test_labels_up_to_254():
    rng = np.random.default_rng(9)
    truth = np.arange(255, dtype=np.uint8).repeat(4).reshape(1, 30, 34)
    prediction = np.roll(truth, 1, 2)
    truth[rng.random(truth.shape) < 0.05] = 255
    j, f = pair_scores(truth[0], prediction[0], 254, 254, 1)
    assert j.shape == f.shape == (255, 254)
    void = truth[0] == 255
    for p, n in ((254, 254), (63, 63), (64, 63), (126, 127), (1, 1), (190, 189)):
        one, other = truth[0] == n, prediction[0] == p
        assert j[p, n - 1] == region_similarity(one, other, void)
        assert f[p, n - 1] == pytest.approx(boundary_accuracy(one, other, void, 1), abs=1e-15)
    table = joint_counts(truth, prediction, 255, 255)[0]
    assert table[255].sum() == void.sum()
    assert table[254, 254] == ((truth == 254) & (prediction == 254)).sum() > 0
