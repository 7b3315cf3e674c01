"""Order of clips: a function of (seed, number), shared out among ranks, resumed by arithmetic."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.data.sampler import GlobalBatches, SampleKey
from slotreel.errors import ConfigError, DataError


def take(batches: GlobalBatches, num_steps: int) -> list[list[SampleKey]]:
    return list(islice(batches, num_steps))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
def test_ranks_part_each_global_batch(
    num_clips: int, share: int, world_size: int, start_step: int
) -> None:
    size = share * world_size
    whole = take(GlobalBatches(num_clips, size, 7, start_step=start_step), 5)
    ranks = [
        take(GlobalBatches(num_clips, size, 7, rank, world_size, start_step), 5)
        for rank in range(world_size)
    ]
    for step in range(5):
        assert [key for rank in ranks for key in rank[step]] == whole[step]
        assert {len(rank[step]) for rank in ranks} == {share}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 30))
def test_resume_equals_the_tail(num_clips: int, batch_size: int, start_step: int) -> None:
    whole = take(GlobalBatches(num_clips, batch_size, 7), start_step + 3)
    assert (
        take(GlobalBatches(num_clips, batch_size, 7, start_step=start_step), 3)
        == (whole[start_step:])
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 30))
def test_each_epoch_has_each_clip_once(num_clips: int, batch_size: int) -> None:
    batches = take(GlobalBatches(num_clips, batch_size, 0), 3 * num_clips)
    keys = [key for batch in batches for key in batch]
    assert [key.number for key in keys] == list(range(len(keys)))
    for epoch in range(3):
        of_epoch = [key.index for key in keys if key.epoch == epoch]
        assert sorted(of_epoch) == list(range(num_clips))


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(key.index for key in batch)
        for seed in (0, 1)
        for batch in take(GlobalBatches(50, 50, seed), 2)
    }
    assert len(orders) == 4


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size=6 .* by 4 processes.*type .*batch_size=8"):
        GlobalBatches(10, 6, 0, 0, 4)
    with pytest.raises(ConfigError, match=r"batch_size=1 .*type trainer.batch_size=2"):
        GlobalBatches(10, 1, 0, 0, 2)
    with pytest.raises(DataError, match="holds no clip"):
        GlobalBatches(0, 2, 0)
    with pytest.raises(ValueError, match="rank=2 is not in 0 to 1"):
        GlobalBatches(4, 2, 0, 2, 2)
