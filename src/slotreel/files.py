"""Files that appear under their name only once they are complete."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path``, with its suffix, renamed to ``path`` if the block succeeds.

    Missing folders are made. A block that fails leaves what was at ``path`` before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(path: str | os.PathLike[str], patience_s: float = 0) -> Iterator[bool]:
    """Hold a lock file for the length of the block; False if another process holds it.

    The lock goes with the process, however it ends; the file itself means nothing.

    Args:
        path: the lock file.
        patience_s: how long to wait for the other process to end, seconds.
    """
    deadline = time.monotonic() + patience_s
    with open(path, "w", encoding="utf-8") as file:
        free = take_lock(file)
        while not free and time.monotonic() < deadline:
            time.sleep(0.5)
            free = take_lock(file)
        yield free


def take_lock(file: IO[Any], shared: bool = False) -> bool:
    """Lock an open file until it is closed, here and in processes that inherit it.

    Returns:
        False if another process has it; True also where locks do not exist.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def is_held(path: str | os.PathLike[str]) -> bool:
    """Whether another process holds this file; False if it is not there."""
    try:
        with open(path, "rb") as file:
            return not take_lock(file, shared=True)
    except OSError:
        return False


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all, see ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a JSON object; survives a crash at any moment as the old or the new file.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot hold.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
