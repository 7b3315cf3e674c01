"""Published checkpoints by name: fetched, checked and imported once, then read from a cache.

CACHE/downloads/slotcontrast/movi_c.ckpt   while it is being fetched, or put there by hand
CACHE/checkpoints/slotcontrast/movi_c/     the run directory it became

CACHE is $XDG_CACHE_HOME/slotreel, or ~/.cache/slotreel.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.console import Console

from slotreel.composing import CONF
from slotreel.data.prepare.download import fetch
from slotreel.errors import CheckpointError, DataError, nearest
from slotreel.files import held
from slotreel.importing.convert import import_checkpoint
from slotreel.importing.published import file_sha256

log = logging.getLogger(__name__)
PREFIX = "hub:"
TABLE = CONF / "checkpoints.yaml"
_POLL_S = 1.0


class Entry(NamedTuple):
    """A line of ``conf/checkpoints.yaml``, which says what the fields are."""

    url: str
    sha256: str | None
    source: str
    preset: str
    licence: str | None
    published: list[float]
    file: str | None = None


def entries(table: Path = TABLE) -> dict[str, Entry]:
    """Every checkpoint that has a name."""
    content: Any = OmegaConf.to_container(OmegaConf.load(table))
    return {name: Entry(**fields) for name, fields in content.items()}


def cache() -> Path:
    """The folder that imports are kept in."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "slotreel"


def locate(spec: str | Path, table: Path = TABLE) -> Path:
    """Where a checkpoint is; one named ``hub:NAME`` is fetched and imported if it is not there yet.

    Of several processes that ask at once, one works and the others wait.

    Args:
        spec: a path, which is returned as it is, or ``hub:NAME``.
        table: names and URLs.

    Raises:
        CheckpointError: no such name, it cannot be fetched, or it is not what was published.
    """
    if not str(spec).startswith(PREFIX):
        return Path(spec)
    name, known = str(spec)[len(PREFIX) :], entries(table)
    if name not in known:
        raise CheckpointError(f"{PREFIX} has no checkpoint {name}; {nearest(name, known)}")
    directory = cache() / "checkpoints" / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory.with_name(f".{directory.name}.lock")):
        if not directory.is_dir():
            _bring(name, known[name], directory)
    return directory


def _bring(name: str, entry: Entry, directory: Path) -> None:
    folder = cache() / "downloads" / entry.source
    file = folder / (entry.file or entry.url.rsplit("/", 1)[1])
    ours = not file.is_file()
    if ours and entry.file:
        raise CheckpointError(
            f"{PREFIX}{name}: no program may fetch this file. Open {entry.url} and follow its "
            f"link, put the file at {file}, and type the same again"
        )
    if ours:
        log.info("%s%s: fetching %s (licence %s)", PREFIX, name, entry.url, entry.licence)
        _download(name, entry, folder, file)
    found = file_sha256(file)
    if entry.sha256 is None:
        log.info("sha256 of %s is %s; none was published to compare it with", file, found)
    elif found != entry.sha256:
        raise CheckpointError(
            f"{file} has sha256 {found}, but {PREFIX}{name} is {entry.sha256}; remove the file and "
            f"fetch {entry.url} again"
        )
    import_checkpoint(file, entry.source, entry.preset, directory, full=True)
    log.info("imported to %s", directory)
    if ours:
        file.unlink()  # the import holds every tensor of it


def _download(name: str, entry: Entry, folder: Path, file: Path) -> None:
    try:
        fetch(entry.url, folder, Console(stderr=True))
    except DataError as error:
        raise CheckpointError(
            f"{PREFIX}{name}: {error.__cause__ or error}. Type the same again to continue, or "
            f"fetch {entry.url} where there is a network, put it at {file}, and type the same again"
        ) from error


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    while True:
        with held(lock) as free:
            if free:
                yield
                return
        time.sleep(_POLL_S)
