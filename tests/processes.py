"""Runs in processes of their own, that need not import torch again: for tests that kill them."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests import running

Prepare = Callable[[], None]
SMALL = (
    "image_size=32",
    "slot_dim=8",
    "num_slots=3",
    "trainer.media_clips=0",
    "trainer.health_videos=0",
)


@functools.cache
def context() -> ForkServerContext:
    """Processes forked from one that has imported what a run needs, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    return context


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Ranks:
    """A run of ``size`` processes that nobody supervises.

    Args:
        directory: of the run; what rank r wrote is in ``DIRECTORY_stderr<r>.txt`` beside it.
        overrides: as in ``running.train``.
        size: number of ranks.
        prepare: called in each process before it trains.
        missing: ranks that are not started.
    """

    def __init__(
        self,
        directory: Path,
        overrides: Sequence[str],
        size: int = 1,
        prepare: Prepare | None = None,
        missing: Sequence[int] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        port = free_port()
        self.processes: list[ForkServerProcess] = [
            context().Process(
                target=_run, args=(directory, tuple(overrides), rank, size, port, prepare)
            )
            for rank in range(size)
            if rank not in missing
        ]
        for process in self.processes:
            process.start()

    def send(self, number: signal.Signals, rank: int = 0) -> None:
        """A signal to one rank."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait(self, seconds: float) -> list[int | None]:
        """Exit codes, None for a rank that is still there after ``seconds``; which is killed."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
            process.join()
        return codes

    def said(self, rank: int) -> str:
        """What a rank wrote to stderr."""
        return _stderr(self.directory, rank).read_text()


def _stderr(directory: Path, rank: int) -> Path:
    return directory.with_name(f"{directory.name}_stderr{rank}.txt")


def _run(
    directory: Path,
    overrides: Sequence[str],
    rank: int,
    size: int,
    port: int,
    prepare: Prepare | None,
) -> None:
    import torch

    with open(_stderr(directory, rank), "ab") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    logging.getLogger().handlers.clear()
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )  # fmt: skip
    if prepare is not None:
        prepare()
    running.train(directory, *SMALL, *overrides)
