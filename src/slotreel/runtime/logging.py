"""What a run says: a log file, metrics.jsonl (the truth), wandb (for looking), a progress bar."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
_OURS = "slotreel"  # name of the handlers set up here


class Sink(Protocol):
    """Something that wants every logged row."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step."""

    def media(self, step: int, name: str, path: Path) -> None:
        """A picture (.png) or video (.mp4) that belongs to a step."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values that describe the whole run."""

    def close(self) -> None:
        """Flush; must return within its own time limit."""


def setup_logging(run_dir: Path | None, rank: int) -> None:
    """Console on rank 0 (rich on a terminal), a plain file per rank in the run directory."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in [h for h in root.handlers if h.name == _OURS]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = []
    if rank == 0:
        if sys.stderr.isatty():
            handlers.append(RichHandler(show_path=False, omit_repeated_times=False))
        else:
            plain = logging.StreamHandler()
            plain.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
            handlers.append(plain)
    if run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(run_dir / ("train.log" if rank == 0 else f"rank{rank}.log"))
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    for handler in handlers:
        handler.name = _OURS
        root.addHandler(handler)
    logging.captureWarnings(True)
    warnings.filterwarnings("default", module="slotreel")


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


def run_id(run_dir: Path) -> str:
    """A stable id of a run: hash of its directory."""
    return hashlib.sha1(str(run_dir.resolve()).encode()).hexdigest()[:12]


class WandbSink:
    """wandb that never blocks: offline without a login, limits on every wait.

    Args:
        project: wandb project.
        mode: ``auto`` (online if there is a login, else offline), ``online`` or ``offline``.
        group: runs shown together, e.g. a sweep.
        tags: words to filter by.
        init_timeout_s: longest wait for the server at the start, then offline.
        finish_timeout_s: longest wait at the end; data stays on disk.
        run_dir: holds wandb's files.
        config: resolved configuration, shown in the table of runs.
        name: name of the run.
        job_type: train, eval or trivial.
    """

    def __init__(
        self,
        *,
        project: str,
        mode: Literal["auto", "online", "offline"],
        group: str | None,
        tags: list[str],
        init_timeout_s: float,
        finish_timeout_s: float,
        run_dir: Path,
        config: dict[str, Any],
        name: str,
        job_type: str = "train",
    ) -> None:
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            os.environ.setdefault(variable, str(run_dir / "wandb" / ".local"))
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        if mode == "auto":
            mode = "online" if _has_login() else "offline"
        arguments: dict[str, Any] = dict(
            project=project, group=group, tags=tags, config=config, name=name, job_type=job_type,
            id=run_id(run_dir), dir=str(run_dir), resume="allow",
        )  # fmt: skip
        settings = wandb.Settings(
            init_timeout=init_timeout_s, finish_timeout=finish_timeout_s, silent=True
        )
        try:
            self.run = wandb.init(**arguments, mode=mode, settings=settings)
        except Exception as error:  # no key, no network, server gone: a run must not die of it
            log.warning("wandb: %s; logging offline, type 'wandb sync' later", error)
            self.run = wandb.init(**arguments, mode="offline", settings=settings)
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, with the step as a value of its own (it goes back on resume)."""
        self.run.log({"step": step, **values})

    def media(self, step: int, name: str, path: Path) -> None:
        """A picture or video of a step."""
        import wandb

        kind = wandb.Video if path.suffix in (".mp4", ".gif") else wandb.Image
        self.run.log({"step": step, f"media/{name}": kind(str(path))})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values for the table of runs."""
        self.run.summary.update(dict(values))

    def close(self) -> None:
        """Finish within the time limit."""
        try:
            self.run.finish()
        except Exception as error:
            log.warning("wandb could not finish (%s); its data is in %s", error, self.run.dir)


def _has_login() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class TensorBoardSink:
    """Scalars and pictures for TensorBoard (``pip install -e .[tb]``).

    Args:
        run_dir: event files go to its ``tensorboard`` folder.
    """

    def __init__(self, *, run_dir: Path, **_: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def media(self, step: int, name: str, path: Path) -> None:
        """Pictures only; TensorBoard needs another library for videos."""
        if path.suffix == ".png":
            import numpy as np
            from PIL import Image

            picture = np.asarray(Image.open(path).convert("RGB"))
            self.writer.add_image(f"media/{name}", picture, step, dataformats="HWC")

    def summary(self, values: Mapping[str, Any]) -> None:
        """Not kept by TensorBoard."""

    def close(self) -> None:
        """Flush the event file."""
        self.writer.close()
