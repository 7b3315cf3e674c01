"""The best assignment of many matrices at once, beside SciPy's of one."""

import numpy as np
import pytest
import torch
from closed_forms import random
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from slotreel.layers.assignment import best_assignment

SEED, SIZE = st.integers(0, 10**6), st.integers(1, 9)


def scipys(score):
    return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in score])


def totals(score, columns):
    return np.take_along_axis(score, columns[..., None], axis=2)[..., 0].sum(axis=1)


@given(seed=SEED, size=SIZE, precision=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=40, deadline=None)
def test_where_one_is_best_it_is_scipys(seed, size, precision):
    score = np.random.default_rng(seed).standard_normal((20, size, size)).astype(precision)
    assert np.array_equal(best_assignment(torch.from_numpy(score)).numpy(), scipys(score))


@given(seed=SEED, size=SIZE, values=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
@example(seed=0, size=5, values=1)
def test_ties(seed, size, values):
    score = np.random.default_rng(seed).integers(0, values, (20, size, size)).astype(np.float64)
    ours, theirs = best_assignment(torch.from_numpy(score)).numpy(), scipys(score)
    assert np.array_equal(np.sort(ours, axis=1), np.tile(np.arange(size), (20, 1)))
    assert np.array_equal(totals(score, ours), totals(score, theirs))
    if size > 4:
        assert np.array_equal(ours, theirs)
    else:  # whole numbers add up exactly, so the order of additions does not decide
        assert all(tuple(a) <= tuple(b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8])
def test_a_constant_score_keeps_the_order(size):
    found = best_assignment(torch.full((2, 3, size, size), 0.5))
    assert torch.equal(found, torch.arange(size).expand(2, 3, size))


def test_worked_example():
    score = torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.95, 0.1], [0.3, 0.2, 0.7]])
    assert best_assignment(score).tolist() == [1, 0, 2]


@pytest.mark.parametrize("size", [3, 6])
def test_problems_do_not_mix_and_axes_stay(size):
    score = random(2, 3, 4, size, size).requires_grad_()
    found = best_assignment(score)
    assert (found.shape, found.dtype) == ((2, 3, 4, size), torch.int64)
    assert torch.equal(found[1, 2], best_assignment(score[1, 2]))
    assert best_assignment(score[:0]).shape == (0, 3, 4, size)


def test_refuses_matrices_that_are_not_square():
    with pytest.raises(ValueError, match=r"square matrices .* got \(2, 3, 4\)"):
        best_assignment(random(2, 3, 4))
