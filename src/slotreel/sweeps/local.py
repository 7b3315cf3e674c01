"""Points of a sweep as processes of this machine, so many at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from slotreel.files import take_lock

_POLL_S = 0.2


class Job(NamedTuple):
    """A process to start."""

    name: str
    command: list[str]
    log: Path  # receives all that it prints


class Ended(NamedTuple):
    """A process that is over."""

    job: Job
    code: int  # negative: killed by that signal


class Pool:
    """Runs jobs, ``size`` at a time; one that fails does not stop the others.

    SIGINT and SIGTERM are passed on, so that each process saves and leaves; nothing more is then
    started. A second SIGINT kills.

    Args:
        size: processes at a time.
        slots: environment of each place, e.g. ``{"CUDA_VISIBLE_DEVICES": "1"}``.
        tell: is given a line when a job starts or ends.
    """

    def __init__(
        self, size: int, slots: Sequence[Mapping[str, str]], tell: Callable[[str], None]
    ) -> None:
        self.size, self.slots, self.tell = size, slots, tell
        self.stopped: signal.Signals | None = None
        self._live: dict[int, tuple[Job, subprocess.Popen[bytes], float]] = {}

    def run(self, jobs: Sequence[Job]) -> list[Ended]:
        """Every job that was started, in the order in which they ended."""
        waiting, ended = list(jobs), []
        numbers = (signal.SIGINT, signal.SIGTERM)
        before: dict[signal.Signals, Any] = {n: signal.signal(n, self._pass_on) for n in numbers}
        try:
            while self._live or (waiting and self.stopped is None):
                while waiting and len(self._live) < self.size and self.stopped is None:
                    self._start(waiting.pop(0))
                ended += self._collect()
                time.sleep(_POLL_S)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return ended

    def _start(self, job: Job) -> None:
        slot = next(i for i in range(self.size) if i not in self._live)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            if not take_lock(log):  # the process inherits it and keeps it until it ends
                self.tell(f"left alone {job.name}: another sweep runs it")
                return
            process = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self.slots[slot]}, start_new_session=True,
            )  # fmt: skip
        self._live[slot] = (job, process, time.monotonic())
        self.tell(f"started   {job.name}")

    def _collect(self) -> list[Ended]:
        over = []
        for slot, (job, process, start) in list(self._live.items()):
            code = process.poll()
            if code is not None:
                del self._live[slot]
                over.append(Ended(job, code))
                minutes = (time.monotonic() - start) / 60
                what = "finished " if code == 0 else f"exit code {code}:"
                self.tell(f"{what} {job.name} ({minutes:.1f} minutes)")
        return over

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        again = self.stopped is not None and number == signal.SIGINT
        self.stopped = signal.Signals(number)
        for _, process, _ in self._live.values():
            os.kill(process.pid, signal.SIGKILL if again else number)


def at_a_time(wanted: int | None, gpus: int, cores: int) -> int:
    """``n_jobs``: as asked for, else one per GPU, without GPUs one per two cores."""
    return wanted or gpus or max(1, cores // 2)


def places(size: int, gpus: Sequence[str], cores: int) -> list[dict[str, str]]:
    """What each of ``size`` processes sees of the machine: GPUs in turn, its share of the cores."""
    slots: list[dict[str, str]] = [{} for _ in range(size)]
    for number, slot in enumerate(slots):
        if gpus:
            slot["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        if size > 1 and "OMP_NUM_THREADS" not in os.environ:
            slot["OMP_NUM_THREADS"] = str(max(1, cores // size))
    return slots


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
