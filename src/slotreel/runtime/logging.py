"""What a run says: a log file, metrics.jsonl (the truth), wandb (for looking), a progress bar."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
FILE_ONLY = "file_only"  # extra={FILE_ONLY: True}: said on the terminal in another way
_OURS = "slotreel"  # name of the handlers set up here


class Sink(Protocol):
    """Something that wants every logged row."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step."""

    def media(self, step: int, name: str, path: Path) -> None:
        """A picture (.png) or video (.mp4) that belongs to a step."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values that describe the whole run."""

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Rows to sort and join, e.g. one per video."""

    def close(self) -> None:
        """Flush; must return within its own time limit."""


def setup_logging(run_dir: Path | None, rank: int) -> None:
    """Console on rank 0 (rich on a terminal), a plain file per rank in the run directory.

    Errors of other ranks also go to the console and to rank 0's file: whoever fails first is
    rarely rank 0, which then only sees that a connection was closed.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in [h for h in root.handlers if h.name == _OURS]:
        root.removeHandler(handler)
        handler.close()
    if rank == 0 and sys.stderr.isatty():
        console: logging.Handler = RichHandler(show_path=False, omit_repeated_times=False)
    else:
        console = logging.StreamHandler()
        who = f"rank {rank}: " if rank else ""
        console.setFormatter(logging.Formatter(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
    console.addFilter(lambda record: not getattr(record, FILE_ONLY, False))
    handlers = [console]
    if run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(_file(run_dir / "train.log", f"rank {rank}: " if rank else ""))
    if rank > 0:
        for handler in handlers:
            handler.setLevel(logging.ERROR)
        if run_dir is not None:
            handlers.append(_file(run_dir / f"rank{rank}.log"))
    for handler in handlers:
        handler.name = _OURS
        root.addHandler(handler)
    logging.captureWarnings(True)
    warnings.filterwarnings("default", module="slotreel")


def _file(path: Path, who: str = "") -> logging.FileHandler:
    handler = logging.FileHandler(path)
    text = f"%(asctime)s %(levelname)s %(name)s: {who}%(message)s"
    handler.setFormatter(logging.Formatter(text))
    return handler


class RunLogger:
    """Rank 0's logger; on other ranks every call does nothing.

    Args:
        run_dir: receives metrics.jsonl; rows are appended, and after a resume a later row of the
            same step wins.
        sinks: where else rows go.
        enabled: False on ranks other than 0.
        num_steps: length of the progress bar.
    """

    def __init__(self, run_dir: Path, sinks: list[Sink], *, enabled: bool, num_steps: int) -> None:
        self.enabled, self.sinks = enabled, sinks if enabled else []
        self.bar: Progress | None = None
        if not enabled:
            return
        self.file = open(run_dir / "metrics.jsonl", "a", encoding="utf-8")
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("train"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                transient=True,
            )
            self.task = self.bar.add_task("train", total=num_steps, note="")
            self.bar.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, to the file and every sink."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for sink in self.sinks:
            sink.log(step, values)

    def progress(self, step: int, note: str) -> None:
        """Move the bar; without a terminal the note goes to the log."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, note=note)
        elif self.enabled:
            log.info("step %d  %s", step, note)

    def media(self, step: int, name: str, path: Path) -> None:
        """Show a picture or video file."""
        for sink in self.sinks:
            sink.media(step, name, path)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Describe the run as a whole."""
        for sink in self.sinks:
            sink.summary(values)

    def close(self) -> None:
        """Stop the bar, flush everything."""
        if self.bar is not None:
            self.bar.stop()
        if self.enabled:
            self.file.close()
        for sink in self.sinks:
            sink.close()
