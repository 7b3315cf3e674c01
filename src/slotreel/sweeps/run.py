"""``--multirun``: say what will run, refuse what cannot, start what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from slotreel.cli import config_dirs
from slotreel.command import say
from slotreel.errors import ConfigError, UserError
from slotreel.runtime.job import cpus
from slotreel.sweeps import local, snapshot
from slotreel.sweeps.plan import Compose, Point, compose_points, judge, refusal
from slotreel.sweeps.state import CONSOLE, State, add_jobs, add_points, state

_GOES = {"finished": "skipped", "running": "left alone", "queued": "left alone"}
_SUBDIR = "hydra.sweep.subdir="


def sweep(
    rows: Sequence[Sequence[str]],
    compose: Compose,
    config: DictConfig,
    launch: Callable[[list[list[str]]], Sequence[Any]],
) -> Sequence[Any]:
    """Every point that is not finished, running or queued, through a launcher.

    Args:
        rows: overrides of every point, as typed.
        compose: overrides -> configuration with Hydra's part.
        config: of the parent, with ``sweep_name`` filled in.
        launch: starts points, given their overrides; its results are returned.

    Raises:
        ConfigError: points that cannot run; nothing was started.
    """
    folder = Path(config.hydra.sweep.dir)
    points, refused = compose_points(rows, compose, folder)
    copied = snapshot.MARK in os.environ  # the same command already judged and told
    if not copied:
        _tell(folder, points)
        refused |= {} if refused else judge(points, folder, _ranks(config))
    if refused:
        raise refusal(refused, len(rows))
    start = [point for point in points if point.state.state not in _GOES]
    add_points(folder, {point.name: point.overrides for point in points})
    if not start:
        say("nothing to start")
        return []
    if config.hydra.launcher.get("snapshot") and not copied:
        dirs = config_dirs(sys.argv[1:])
        copy = snapshot.take(folder, [Path(d) for d in dirs])
        say(f"code and configuration are copied to {copy}")
        snapshot.restart(copy, sys.argv[1:], dirs)
    named = f"sweep_name={config.sweep_name}"
    return launch([[*_own(p.overrides), named, f"{_SUBDIR}'{p.name}'"] for p in start])


def _own(overrides: Iterable[str]) -> list[str]:
    return [o for o in overrides if not o.startswith("sweep_name=")]


def _tell(folder: Path, points: Sequence[Point]) -> None:
    width = max((len(point.name) for point in points), default=0)
    say(f"sweep {folder.name}: {len(points)} runs in {folder}")
    for point in points:
        say(f"  {point.name:{width}}  {_does(point.state)}".rstrip())
    sys.stdout.flush()


def _does(now: State) -> str:
    if now.state in _GOES:
        return f"{now.state}, {_GOES[now.state]}"
    if now.state == "failed":
        return "failed, goes on" + (f" from about step {now.step}" if now.step else "")
    return ""


def _ranks(config: DictConfig) -> int:
    launcher = config.hydra.launcher
    return (launcher.get("nodes") or 1) * (launcher.get("tasks_per_node") or 1)


def name_of(overrides: Sequence[str]) -> str:
    """The point's folder, from what ``sweep`` added to its overrides."""
    (subdir,) = [o for o in overrides if o.startswith(_SUBDIR)]
    return subdir.removeprefix(_SUBDIR).strip("'")


def launch_here(config: DictConfig, rows: Sequence[Sequence[str]], n_jobs: int | None) -> None:
    """Each point as the command a user would type, ``n_jobs`` at a time.

    Raises:
        UserError: points that failed, with their logs.
        SystemExit: a signal stopped the sweep.
    """
    if n_jobs is not None and n_jobs < 1:
        raise ConfigError(
            f"hydra.launcher.n_jobs={n_jobs}: at least one process runs at a time; leave it out "
            "for one per GPU, or without GPUs one per two cores"
        )
    folder = Path(config.hydra.sweep.dir)
    gpus, cores = local.visible_gpus(), cpus()
    size = min(local.at_a_time(n_jobs, len(gpus), cores), len(rows))
    jobs = [_job(folder / name_of(row), row, config) for row in rows]
    say(f"{len(jobs)} runs, {size} at a time; their words: {folder}/<run>/{CONSOLE}")
    pool = local.Pool(size, local.places(size, gpus, cores), say)
    codes = {ended.job.name: ended.code for ended in pool.run(jobs)}
    if pool.stopped is not None:
        say("stopped; type the same again to go on")
        sys.exit(128 + pool.stopped)
    failed = {name: folder / name / CONSOLE for name, code in codes.items() if code != 0}
    report(folder, failed, len(jobs))


def report(folder: Path, failed: Mapping[str, Path], total: int) -> None:
    """Say how it ended; ``failed`` gives what each failed process printed.

    Raises:
        UserError: something failed; lists error and log file of each.
    """
    look = f"python scripts/sweep.py {folder}"
    if not failed:
        say(f"{total} runs finished; {look} lists their scores")
        return
    lines = []
    for name, log in failed.items():
        now = state(folder / name)
        lines.append(f"  {name}: {now.error or f'exit code not 0 ({log})'}")
    raise UserError(
        f"{len(failed)} of {total} runs failed:\n" + "\n".join(lines) + "\n"
        f"Type the same again to go on with them; {look} lists all"
    )


def _job(run: Path, row: Sequence[str], config: DictConfig) -> local.Job:
    own = [o for o in row if not o.startswith(_SUBDIR)]
    path = [o for o in config.hydra.overrides.hydra if o.startswith("hydra.searchpath=")]
    dirs = [word for folder in config_dirs(sys.argv[1:]) for word in ("--config-dir", folder)]
    # a file of sweep= asks for many runs; this is one of them
    here = ["hydra.mode=RUN", f"hydra.run.dir='{run}'"]
    command = [sys.executable, sys.argv[0], *dirs, *own, *path, *here]
    return local.Job(run.name, command, run / CONSOLE)


def submitted(folder: Path, jobs: Mapping[str, str], wait: bool) -> None:
    """Remember and tell which jobs of the queue run which points."""
    add_jobs(folder, jobs)
    for name, job in jobs.items():
        say(f"job {job}  {name}")
    look = f"python scripts/sweep.py {folder}"
    say(f"waiting for {len(jobs)} jobs; {look} lists them" if wait else f"{look} lists their state")
