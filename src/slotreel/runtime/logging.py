"""What a run says: a log file, metrics.jsonl (the truth), wandb (for looking), a progress bar."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from slotreel.files import write_json
from slotreel.runtime.progress import CONSOLE
from slotreel.runtime.rows import end_last_line

log = logging.getLogger(__name__)
FILE_ONLY = "file_only"  # extra={FILE_ONLY: True}: said on the terminal in another way
BAR_WIDTH = 10  # cells: the rest of the line fits into 80
_OURS = "slotreel"  # name of the handlers set up here


@contextmanager
def errors_only() -> Iterator[None]:
    """Of what slotreel says, errors only, for a while."""
    ours = logging.getLogger("slotreel")
    level = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(level)


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

    def artifact(self, path: Path) -> None:
        """The final checkpoint, to be kept if the user asked for it."""

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
    console: logging.Handler
    if rank == 0 and sys.stderr.isatty():
        console = RichHandler(
            console=CONSOLE, show_path=False, omit_repeated_times=False, log_time_format="%X"
        )
    else:
        console = logging.StreamHandler()
        who = f"rank {rank}: " if rank else ""
        console.setFormatter(logging.Formatter(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
    console.addFilter(lambda record: not getattr(record, FILE_ONLY, False))
    handlers: list[logging.Handler] = [console]
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
        run_dir: receives metrics.jsonl (rows are appended, and after a resume a later row of the
            same step wins) and summary.json.
        sinks: where else rows go.
        enabled: False on ranks other than 0.
        num_steps: length of the progress bar.
    """

    def __init__(self, run_dir: Path, sinks: list[Sink], *, enabled: bool, num_steps: int) -> None:
        self.enabled, self.sinks = enabled, sinks if enabled else []
        self.run_dir, self.num_steps = run_dir, num_steps
        self.bar: Progress | None = None
        if not enabled:
            return
        end_last_line(run_dir / "metrics.jsonl")
        self.file = open(run_dir / "metrics.jsonl", "a", encoding="utf-8")
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("train"),
                BarColumn(BAR_WIDTH),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=CONSOLE,
                transient=True,
                speed_estimate_period=600,  # the bar moves once per logged row
            )
            self.task = self.bar.add_task("train", total=num_steps, note="")
            self.bar.start()

    def begin(self, step: int) -> None:
        """Put the bar where training starts: the time left counts from here."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, to the file and every sink."""
        if not self.enabled:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for sink in self.sinks:
            sink.log(step, values)

    def progress(self, step: int, note: str, detail: str) -> None:
        """Move the bar, which ends with the last step; the log gets a line with more detail."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, note=note)
        if self.enabled:
            shown = {FILE_ONLY: self.bar is not None}
            log.info("step %d  %s  %s", step, note, detail, extra=shown)
        if step >= self.num_steps:
            self._stop_bar()

    def _stop_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def media(self, step: int, name: str, path: Path) -> None:
        """Show a picture or video file."""
        for sink in self.sinks:
            sink.media(step, name, path)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Describe the run as a whole; a value that is not a number yet is null in summary.json."""
        if not self.enabled:
            return
        path = self.run_dir / "summary.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, known | {k: None if v != v else v for k, v in values.items()})
        for sink in self.sinks:
            sink.summary(values)

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Rows to sort and join; scores.json holds them too."""
        for sink in self.sinks:
            sink.table(step, name, columns, rows)

    def artifact(self, path: Path) -> None:
        """The final checkpoint."""
        for sink in self.sinks:
            sink.artifact(path)

    def close(self) -> None:
        """Stop the bar, flush everything."""
        self._stop_bar()
        if self.enabled:
            self.file.close()
        for sink in self.sinks:
            sink.close()
