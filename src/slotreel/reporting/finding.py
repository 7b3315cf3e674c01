"""Which directories are runs: named, matched by a pattern, or anywhere below a folder."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from slotreel.errors import DataError

MARKS = ("config.yaml", "train.log")  # a run that got as far as its first line has one of them
_JOB = re.compile(r"\d+_")  # how a sweep numbers its runs


def find_runs(arguments: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Run directories in the order of the arguments, each once.

    Args:
        arguments: run directories, patterns such as ``runs/*_seed?``, or folders that are searched.

    Raises:
        DataError: an argument that leads to no run.
    """
    found: dict[Path, Path] = {}
    for argument in (os.fspath(argument) for argument in arguments):
        places = sorted(glob.glob(argument)) if glob.has_magic(argument) else [argument]
        runs = [run for place in places for run in _runs_in(Path(place))]
        if not runs:
            raise DataError(
                f"no run in {argument}: expected a directory with {' or '.join(MARKS)}, or a folder"
                " or pattern that leads to such directories, e.g. runs/2026-*_sweep"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _runs_in(place: Path) -> Iterator[Path]:
    """A run itself, or the runs below a folder; links below it are not followed."""
    if any((place / mark).is_file() for mark in MARKS):
        yield place
    elif place.is_dir():
        jobs = (place / "multirun.yaml").is_file()
        for child in sorted(place.iterdir(), key=_in_order):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                below = list(_runs_in(child))
                yield from below or ([child] if jobs and _JOB.match(child.name) else [])


def _in_order(path: Path) -> tuple[int, str]:
    """Jobs of a sweep by number: 10 comes after 9."""
    job = _JOB.match(path.name)
    return (int(job.group()[:-1]) if job else 0), path.name
