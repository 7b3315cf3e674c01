"""Which clip comes when: pure arithmetic on the step, so nothing has to be stored to resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from slotreel.errors import ConfigError, DataError
from slotreel.noise import seed_of


class SampleKey(NamedTuple):
    """Address of one training clip: the same key is the same clip, bit for bit."""

    epoch: int
    index: int  # type: ignore[assignment]  # clip within the data set
    number: int  # sample since the start of training, over all ranks


class GlobalBatches(Sampler[list[SampleKey]]):
    """Endless batches of one rank.

    Sample n = step * batch_size + j belongs to epoch n // num_clips and takes place n % num_clips
    of that epoch's permutation, drawn from (seed, epoch). Batches run across the end of an epoch,
    so none is short and data sets smaller than a batch work. Rank r takes the r-th contiguous part.

    Args:
        num_clips: clips in the data set.
        batch_size: clips per step over all ranks.
        seed: another seed is another order.
        rank: this process among ``world_size``.
        world_size: number of processes.
        start_step: first step to deliver.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
        DataError: there is no clip.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ) -> None:
        if num_clips < 1:
            raise DataError("the training set holds no clip: expected at least 1")
        if batch_size < 1 or batch_size % world_size:
            near = max(1, round(batch_size / world_size)) * world_size
            raise ConfigError(
                f"trainer.batch_size={batch_size} cannot be shared by {world_size} processes: "
                f"expected a multiple of {world_size}; type trainer.batch_size={near}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} is not in 0 to {world_size - 1}")
        self.num_clips, self.batch_size, self.seed = num_clips, batch_size, seed
        self.rank, self.world_size, self.start_step = rank, world_size, start_step
        self._order: tuple[int, np.ndarray] | None = None

    def __iter__(self) -> Iterator[list[SampleKey]]:
        step = self.start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> list[SampleKey]:
        """This rank's keys of one step."""
        share = self.batch_size // self.world_size
        first = step * self.batch_size + self.rank * share
        return [self._key(n) for n in range(first, first + share)]

    def _key(self, number: int) -> SampleKey:
        epoch, place = divmod(number, self.num_clips)
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng(seed_of(self.seed, "order", epoch))
            self._order = epoch, rng.permutation(self.num_clips)
        return SampleKey(epoch, int(self._order[1][place]), number)
