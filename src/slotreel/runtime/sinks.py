"""Where rows go beside metrics.jsonl: wandb, TensorBoard."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)


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
            mode = "online" if has_login() else "offline"
        arguments: dict[str, Any] = dict(
            project=project, group=group, tags=tags, config=config, name=name, job_type=job_type,
            id=run_id(run_dir), dir=str(run_dir), resume="allow",
        )  # fmt: skip
        settings = wandb.Settings(
            init_timeout=init_timeout_s, finish_timeout=finish_timeout_s, silent=True,
            reinit="create_new",  # trivial rows are logged while the run they stand beside is open
        )  # fmt: skip
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

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """A table of the run's page."""
        import wandb

        self.run.log({"step": step, name: wandb.Table(columns=list(columns), data=list(rows))})

    def close(self) -> None:
        """Finish within the time limit."""
        try:
            self.run.finish()
        except Exception as error:
            log.warning("wandb could not finish (%s); its data is in %s", error, self.run.dir)


def has_login() -> bool:
    """Whether wandb would find a key on this machine."""
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

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Not kept by TensorBoard; scores.json holds every row."""

    def close(self) -> None:
        """Flush the event file."""
        self.writer.close()
