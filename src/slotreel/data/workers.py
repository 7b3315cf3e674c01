"""What loader processes do when signals arrive."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from multiprocessing.context import SpawnContext

import torch


class WorkerGuard:
    """Prepares each worker: one thread, and deaf to signals that are meant for the main process.

    A scheduler sends its signals to every process of a step. The main process decides what they
    mean, and may go on training; a worker that dies would end it. Workers obey SIGTERM once
    ``close`` was called, which the loader does when Python exits.

    Args:
        context: how workers are started.
        num_workers: how many there are.
    """

    def __init__(self, context: SpawnContext, num_workers: int) -> None:
        self._closing = context.RawValue(ctypes.c_bool, False)
        self._pids = context.RawArray(ctypes.c_long, num_workers)

    def __call__(self, worker: int) -> None:
        """Run in a worker as it starts."""
        torch.set_num_threads(1)
        self._pids[worker] = os.getpid()
        for name in ("SIGINT", "SIGTERM", "SIGUSR2"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._told)

    def _told(self, signum: int, frame: object) -> None:
        if signum == signal.SIGTERM and self._closing.value:
            os._exit(0)

    def close(self) -> None:
        """End the workers that are left."""
        self._closing.value = True
        pids = set(self._pids)
        for child in multiprocessing.active_children():
            if child.pid in pids:
                child.terminate()
