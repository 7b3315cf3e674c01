"""Which directories are runs: named, matched by a pattern, or anywhere below a folder."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from slotreel.errors import DataError

MARKS = ("config.yaml", "train.log")  # a run that got as far as its first line has one of them
_JOB = re.compile(r"\d+_")  # how Hydra's own sweeps number their runs


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
                " or pattern that leads to such directories, e.g. runs/sweeps/NAME"
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _runs_in(place: Path) -> Iterator[Path]:
    """A run itself, or the runs below a folder; links below it are not followed."""
    if any((place / mark).is_file() for mark in MARKS):
        yield place
    elif place.is_dir():
        asked = _asked_for(place)
        yield from asked
        for child in sorted(place.iterdir(), key=_in_order):
            searched = child.is_dir() and not child.is_symlink() and child not in asked
            if searched and not child.name.startswith("."):
                yield from _runs_in(child)


def _asked_for(sweep: Path) -> list[Path]:
    """Runs that a sweep was to make, those that died before their first line included."""
    if (sweep / "multirun.yaml").is_file():
        children = sorted(sweep.iterdir(), key=_in_order)
        return [child for child in children if child.is_dir() and _JOB.match(child.name)]
    try:
        points = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["points"]
        return [sweep / name for name in points]
    except (OSError, ValueError, KeyError, TypeError):  # no sweep, or only its folders tell
        return []


def _in_order(path: Path) -> tuple[int, str]:
    """Jobs of a sweep by number: 10 comes after 9."""
    job = _JOB.match(path.name)
    return (int(job.group()[:-1]) if job else 0), path.name
