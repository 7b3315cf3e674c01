"""How far a command is: a bar on a terminal, a line of the log now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
CONSOLE = Console(stderr=True)  # one for bars and log lines, so that lines stay above the bar
LINE_EVERY_S = 10  # between lines where there is no terminal


@contextmanager
def counting(name: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total) as the work goes on.

    Args:
        name: what is worked on.
        unit: what is counted, e.g. ``videos``.
    """
    if not sys.stderr.isatty():
        yield _lines(name, unit)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=CONSOLE,
        transient=True,
    ) as bar:
        task = bar.add_task(f"{name} ({unit})", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str, unit: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            log.info("%s: %d of %d %s", name, done, total, unit)

    return line
