"""The paired bootstrap: known answers and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.protocols.score_table import ScoreTable
from slotreel.reporting import bootstrap
from slotreel.reporting.bootstrap import FEWEST, paired_differences
from tests.reporting.runs import table


def test_a_constant_difference_is_certain() -> None:
    base = np.linspace(0.1, 0.5, 10).tolist()
    found = paired_differences([table([x + 0.25 for x in base])], [table(base)])["fg_ari_video"]
    assert found == pytest.approx((0.25, 0.25, 0.25))
    assert found.excludes_zero()


def test_the_interval_is_that_of_a_normal_mean() -> None:
    differences = np.random.default_rng(1).normal(0.02, 0.1, size=200)
    ours, base = table((0.5 + differences).tolist()), table([0.5] * 200)
    found = paired_differences([ours], [base])["fg_ari_video"]
    half = 1.96 * differences.std() / np.sqrt(200)
    assert found.value == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.15 * half)


SCORES = st.lists(
    st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 2), min_size=FEWEST, max_size=12
)


@settings(max_examples=15, deadline=None)
@given(SCORES)
def test_laws_of_the_bootstrap(pairs: list[tuple[float, float]]) -> None:
    ours, base = (table(list(side)) for side in zip(*pairs, strict=True))
    forth = paired_differences([ours], [base], resamples=200)["fg_ari_video"]
    back = paired_differences([base], [ours], resamples=200)["fg_ari_video"]
    assert forth == pytest.approx((-back.value, -back.high, -back.low))
    assert forth == paired_differences([ours], [base], resamples=200)["fg_ari_video"]
    gaps = [a - b for a, b in pairs]
    assert min(gaps) - 1e-9 <= forth.low <= forth.high <= max(gaps) + 1e-9
    twice = paired_differences([ours, ours], [base], resamples=200)["fg_ari_video"]
    assert twice == pytest.approx(forth), "seeds are averaged, they are no new videos"


def test_videos_with_more_samples_weigh_more_and_parts_are_combined() -> None:
    rows = {f"v{i}": {"j": (0.0, 1.0), "f": (0.5, 1.0)} for i in range(7)}
    heavy = {**rows, "v0": {"j": (9.0, 9.0), "f": (0.5, 1.0)}}
    one, other = (ScoreTable("s", "p", "d", r) for r in (heavy, rows))
    found = paired_differences([one], [other])
    assert found["j"].value == pytest.approx(9 / 15)
    assert found["jf"].value == pytest.approx((9 / 15 + 0) / 2)


def test_nothing_is_tested_where_nothing_can_be() -> None:
    few = table([0.1] * (FEWEST - 1))
    assert paired_differences([few], [few]) == {}
    with pytest.raises(ValueError, match="the same videos"):
        paired_differences([table([0.1] * 8)], [table([0.1] * 9)])
    with pytest.raises(ValueError, match="at least one table"):
        paired_differences([], [few])


def test_memory_is_bounded_without_changing_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, base = table([0.1, 0.9, 0.4, 0.3, 0.8, 0.7]), table([0.5] * 6)
    whole = paired_differences([ours], [base], resamples=100)
    monkeypatch.setattr(bootstrap, "BLOCK", 6 * 7)
    assert paired_differences([ours], [base], resamples=100) == whole
