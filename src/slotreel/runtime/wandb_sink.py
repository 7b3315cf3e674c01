"""wandb that never stops a run: every wait has a limit, every failure is a warning."""

from __future__ import annotations

import hashlib
import logging
import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlparse

log = logging.getLogger(__name__)
Mode = Literal["auto", "online", "offline", "disabled"]
LATER = "metrics.jsonl holds every number: python scripts/sync_wandb.py RUN sends it later"


def run_id(run_dir: Path) -> str:
    """A stable id of a run: hash of the directory it was first logged in, which it keeps."""
    stored = run_dir / "wandb" / "run_id"
    if not stored.is_file():
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(hashlib.sha1(str(run_dir.resolve()).encode()).hexdigest()[:12])
    return stored.read_text().strip()


class WandbSink:
    """A run of wandb: offline without a login or a server that answers, limits on every wait.

    Args:
        project: wandb project.
        mode: ``auto`` (the variable WANDB_MODE; else online if there is a login, else offline),
            ``online``, ``offline`` or ``disabled``.
        group: runs shown together, e.g. a sweep.
        tags: words to filter by.
        init_timeout_s: longest wait for the server at the start, twice, then offline.
        finish_timeout_s: longest wait for a table, an artifact, and the end; data stays on disk.
        artifact: whether ``artifact`` uploads what it is given.
        run_dir: holds wandb's files.
        config: resolved configuration, shown in the table of runs.
        name: name of the run.
        job_type: train, eval or trivial.
    """

    unreachable: ClassVar[bool] = False  # once one run of this process has waited in vain

    def __init__(
        self,
        *,
        project: str,
        mode: Mode,
        group: str | None,
        tags: list[str],
        init_timeout_s: float,
        finish_timeout_s: float,
        run_dir: Path,
        config: dict[str, Any],
        name: str,
        job_type: str = "train",
        artifact: bool = False,
    ) -> None:
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(variable, str(run_dir / "wandb" / ".local"))
        os.environ.setdefault("WANDB_SILENT", "true")
        self.limit_s, self.uploads_artifact = finish_timeout_s, artifact
        self.run: Any = None
        self.delivered = False  # whether the server has all that was said
        chosen = self._reached(_chosen(mode), init_timeout_s)
        settings = dict(
            init_timeout=init_timeout_s, finish_timeout=finish_timeout_s, silent=True,
            finish_timeout_raises=True,
            reinit="create_new",  # trivial rows are logged while the run they stand beside is open
        )  # fmt: skip
        arguments = dict(
            project=project, group=group, tags=tags, config=config, name=name, job_type=job_type,
            dir=str(run_dir), resume="allow",
        )  # fmt: skip
        self._start(arguments, settings, chosen, run_id(run_dir))

    def _start(
        self, arguments: dict[str, Any], settings: dict[str, Any], mode: Any, name: str
    ) -> None:
        """Open the run; offline where the server refuses, not at all where that fails too."""
        import wandb

        # a refused run keeps its id inside wandb's own process
        attempts: list[tuple[Any, str]] = [(mode, name), ("offline", f"{name}-offline")]
        for chosen, own_id in attempts:
            try:
                options = wandb.Settings(**settings)
                run = wandb.init(**arguments, mode=chosen, id=own_id, settings=options)
                run.define_metric("step")
                run.define_metric("*", step_metric="step")
            except Exception as error:  # no key, no network, server gone: a run must not die of it
                WandbSink.unreachable = True
                log.warning("wandb: %s; logging offline. %s", error, LATER)
            else:
                self.run, self.delivered = run, chosen == "online"
                return

    def _reached(self, mode: str, limit_s: float) -> str:
        """``offline`` in place of ``online`` where nothing answers, or nothing did before."""
        if mode != "online":
            return mode
        if not WandbSink.unreachable and not answers(server_url(), limit_s):
            WandbSink.unreachable = True
            log.warning("wandb: no answer from %s; logging offline. %s", server_url(), LATER)
        return "offline" if WandbSink.unreachable else mode

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, with the step as a value of its own (it goes back on resume)."""
        self._guarded(lambda: self.run.log({"step": step, **values}))

    def media(self, step: int, name: str, path: Path) -> None:
        """A picture or video of a step."""

        def send() -> None:
            import wandb

            kind = wandb.Video if path.suffix in (".mp4", ".gif") else wandb.Image
            self.run.log({"step": step, f"media/{name}": kind(str(path))})

        self._guarded(send)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Values for the table of runs."""
        self._guarded(lambda: self.run.summary.update(dict(values)))

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """A table of the run's page; wandb asks its server first, so this may wait."""

        def send() -> None:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            self.run.log({"step": step, name: table})

        self._waiting(f"table {name}", send)

    def artifact(self, path: Path) -> None:
        """Upload the final checkpoint, if that was asked for (``logger.artifact=true``)."""
        if not self.uploads_artifact:
            return

        def send() -> None:
            import wandb

            artifact = wandb.Artifact(f"checkpoint-{self.run.id}", type="model")
            artifact.add_file(str(path), policy="immutable")  # read where it lies, not copied
            self.run.log_artifact(artifact, aliases=["last"])

        self._waiting(f"artifact {path.name}", send)

    def close(self) -> None:
        """Finish within the time limit."""
        if self.run is not None:
            self._bounded("end of the run", lambda: self.run.finish(), spare_s=10)
            self.run = None

    def _guarded(self, send: Callable[[], None]) -> None:
        """Send; a failure is said once and ends this sink."""
        if self.run is None:
            return
        try:
            send()
        except Exception as error:
            log.warning("wandb stopped: %s. %s", error, LATER)
            self.run, self.delivered = None, False

    def _waiting(self, what: str, send: Callable[[], None]) -> None:
        """Send what the server must answer, unless it did not answer before."""
        lost = not self.run or (self.run.settings.mode == "online" and not self.delivered)
        if not lost:
            self._bounded(what, send)

    def _bounded(self, what: str, send: Callable[[], None], spare_s: float = 0) -> None:
        """Send in a thread and wait for it no longer than the limit; then go on without it."""
        failed: list[Exception] = []

        def attempt() -> None:
            try:
                send()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=attempt, name=f"wandb {what}", daemon=True)
        thread.start()
        thread.join(self.limit_s + spare_s)
        if thread.is_alive() or failed:
            WandbSink.unreachable, self.delivered = True, False
            why = failed[0] if failed else f"no answer within {self.limit_s:g} s"
            log.warning("wandb: %s was not sent (%s). %s", what, why, LATER)


def _chosen(mode: Mode) -> str:
    """What ``auto`` means here."""
    if mode != "auto":
        return mode
    return os.environ.get("WANDB_MODE") or ("online" if has_login() else "offline")


def server_url() -> str:
    """The wandb server of this user."""
    if "WANDB_BASE_URL" in os.environ:
        return os.environ["WANDB_BASE_URL"].rstrip("/")
    import wandb

    return str(wandb.setup().settings.base_url).rstrip("/")


def answers(url: str, limit_s: float) -> bool:
    """Whether anything speaks HTTP there within the limit."""
    try:
        with urllib.request.urlopen(url, timeout=limit_s):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def has_login() -> bool:
    """Whether wandb would find a key on this machine."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    hosts = [urlparse(server_url()).netloc, "api.wandb.ai"]  # the second: keys of older versions
    try:
        return any(netrc.netrc().authenticators(host) is not None for host in hosts)
    except (OSError, netrc.NetrcParseError):
        return False
