"""Losses that disturb a run without changing its numbers."""

from __future__ import annotations

import os
import time

from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.runtime.job import restarted
from slotreel.types import Dims, Needs


class Slow(Loss):
    """Zero, after ``seconds`` while the job was not restarted: long enough to catch it at work."""

    def __init__(self, dims: Dims, seconds: float) -> None:
        super().__init__()
        self.seconds = 0.0 if restarted() else seconds

    @property
    def needs(self) -> Needs:
        return Needs()

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        time.sleep(self.seconds)
        return ctx.student[0].slots.new_zeros(()), {}


class Failing(Loss):
    """Zero, until one rank raises at a step."""

    def __init__(self, dims: Dims, rank: int, step: int) -> None:
        super().__init__()
        self.rank, self.step = rank, step

    @property
    def needs(self) -> Needs:
        return Needs()

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        if ctx.progress.step == self.step and os.environ.get("RANK") == str(self.rank):
            raise ArithmeticError("this rank was asked to fail")
        return ctx.student[0].slots.new_zeros(()), {}
