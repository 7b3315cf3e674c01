"""Being told to stop: signals only raise a flag, the loop acts at a step boundary."""

from __future__ import annotations

import logging
import os
import signal
from types import FrameType
from typing import Any

import torch

from slotreel.errors import ConfigError
from slotreel.runtime.distributed import any_rank
from slotreel.runtime.job import under_slurm
from slotreel.runtime.peers import finish_in_peace

log = logging.getLogger(__name__)
HEARD = (signal.SIGUSR2, signal.SIGINT, signal.SIGTERM)  # the first of them that came counts


def ignore_time_limit() -> None:
    """Let SIGUSR2 pass once nothing is left to save: it would kill a Python that is ending."""
    if under_slurm():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class StopFlag:
    """Remembers SIGINT, SIGTERM and SIGUSR2 until the loop asks; use as a context manager.

    Outside SLURM, SIGINT and SIGTERM mean: save and exit with 130 or 143; a second SIGINT
    interrupts at once. Under SLURM, SIGTERM (preemption, a dying node, or scancel) means: save and
    keep training until killed, because leaving early reads as finished and requeueing resurrects
    cancelled jobs. SIGUSR2 (time limit) means: save, then hand over to whoever handled it before
    (submitit requeues).

    Attributes:
        exit_code: of a process that ``hand_over`` told to return; 0 before.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._received: set[int] = set()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in HEARD:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if kind is not None:
            finish_in_peace()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self._received:
            raise KeyboardInterrupt
        self._received.add(number)

    @property
    def hit(self) -> bool:
        """Whether a signal has come since the last ``agree``."""
        return bool(self._received)

    def agree(self, device: torch.device) -> signal.Signals:
        """The signal all ranks act upon, and forget: they need not get the same ones in time.

        Call it on every rank, once any rank was hit.
        """
        received, self._received = self._received, set()
        came = any_rank([number in received for number in HEARD], device)
        return next(number for number, flag in zip(HEARD, came, strict=True) if flag)

    def hand_over(self, number: signal.Signals, is_main: bool) -> bool:
        """After the save: True if the loop must return, False if it trains on.

        Raises:
            ConfigError: the job may not be requeued again.
        """
        if number == signal.SIGUSR2 and callable(self._previous[number]):
            if is_main:
                self._requeue(number)
            os._exit(0)
        if under_slurm() and number == signal.SIGTERM:
            log.info("training goes on until SLURM ends it")
            return False
        self.exit_code = 128 + number
        return True

    def _requeue(self, number: signal.Signals) -> None:
        from submitit.core.utils import UncompletedJobError

        try:
            self._previous[number](number, None)  # submitit requeues and exits
        except UncompletedJobError as error:
            raise ConfigError(
                f"{error} The run is saved; go on with ./train.py resume=RUN, and give the next "
                "sweep a larger hydra.launcher.max_num_timeout"
            ) from error
