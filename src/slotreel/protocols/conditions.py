"""What a published evaluation changed in the model it looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Grouper, Objective
from slotreel.layers.frames import normalising


class Conditions(NamedTuple):
    """Settings that replace the model's own while it is scored; None leaves them alone."""

    normalisation: Mapping[str, Sequence[float]] | None = None  # mean and std of the pixels
    num_iters: int | None = None  # rounds of a grouper that has rounds

    @contextmanager
    def imposed(self, objective: Objective) -> Iterator[None]:
        """The model under these settings, and afterwards as it was.

        Models without features answer for themselves, and a grouper without rounds has none to
        change.

        Raises:
            ConfigError: the model has a backbone, but nothing that normalises its pixels.
        """
        with _rounds(objective, self.num_iters):
            if self.normalisation is None:
                yield
                return
            with normalising(objective, **self.normalisation) as changed:
                if objective.has_features() and not changed:
                    raise ConfigError(
                        "this protocol normalises pixels by its own mean and std, and the backbone "
                        "of this model has none; type protocol.normalisation=null"
                    )
                yield

    def describe(self) -> str:
        """The settings in words, each after a semicolon; "" where there are none."""
        rounds = "" if self.num_iters is None else f"; {self.num_iters} rounds of the grouper"
        if self.normalisation is None:
            return rounds
        constants = ", ".join(f"{k} {list(v)}" for k, v in self.normalisation.items())
        return f"; normalised by {constants}{rounds}"


@contextmanager
def _rounds(model: nn.Module, number: int | None) -> Iterator[None]:
    """So many rounds of every grouper that has rounds."""
    groupers = [module for module in model.modules() if isinstance(module, Grouper)]
    own = {grouper: grouper.num_iters for grouper in groupers if grouper.num_iters is not None}
    for grouper in own if number is not None else ():
        grouper.num_iters = number
    try:
        yield
    finally:
        for grouper, before in own.items():
            grouper.num_iters = before
