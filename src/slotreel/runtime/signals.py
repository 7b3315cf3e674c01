"""Being told to stop: signals only raise a flag, the loop acts at a step boundary."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def under_slurm() -> bool:
    """Whether this process is a task of a SLURM job (and not merely on a machine with SLURM)."""
    return "SLURM_JOB_ID" in os.environ and "SLURM_PROCID" in os.environ


class StopFlag:
    """Remembers SIGINT, SIGTERM and SIGUSR2 until the loop asks; use as a context manager.

    Outside SLURM, SIGINT and SIGTERM mean: save and exit with 130 or 143; a second SIGINT
    interrupts at once. Under SLURM, SIGTERM (preemption, a dying node, or scancel) means: save and
    keep training until killed, because leaving early reads as finished and requeueing resurrects
    cancelled jobs. SIGUSR2 (time limit) means: save, then hand over to whoever handled it before
    (submitit requeues).
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    @property
    def hit(self) -> bool:
        """Whether a signal has come since the last ``hand_over``."""
        return self.received is not None

    def hand_over(self, is_main: bool) -> bool:
        """After the save: True if the loop must return, False if it trains on.

        A peer that got no signal itself learns of it by ``any_rank`` and also comes here.
        """
        number, self.received = self.received, None
        if number == signal.SIGUSR2 and callable(self._previous[number]):
            if is_main:
                self._previous[number](number, None)  # submitit: requeue and exit
            os._exit(0)
        if under_slurm() and number in (signal.SIGTERM, None):
            return False
        self.received = number or signal.SIGTERM
        return True

    @property
    def exit_code(self) -> int:
        """The exit code of a process stopped by the remembered signal; 0 if there was none."""
        return 0 if self.received is None else EXIT_CODES.get(self.received, 128 + self.received)
