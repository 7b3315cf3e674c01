"""Fetch published archives over HTTP; an interrupted one is continued."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from slotreel.errors import DataError

_TIMEOUT_S = 60
_BLOCK = 1 << 20  # bytes


def fetch(url: str, folder: Path, console: Console) -> Path:
    """Download a file under its own name; what is there already is not fetched again.

    The bytes go to NAME.part, which a second call continues where the server allows it. The file
    gets its name once its size is what the server announced.

    Raises:
        DataError: the server cannot be reached, refuses, or sends another number of bytes.
    """
    target = folder / url.rsplit("/", 1)[1]
    if target.is_file():
        console.print(f"{target} is there", highlight=False, soft_wrap=True)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        expected = _fetch(url, part, console)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot download {url}: {error}. Run the same command again to continue, or download "
            f"it by hand and give the file instead of --download"
        ) from error
    size = part.stat().st_size
    if expected is not None and size != expected:
        raise DataError(
            f"{url}: got {size} of {expected} bytes; run the same command again to continue"
        )
    os.replace(part, target)
    return target


def _fetch(url: str, part: Path, console: Console) -> int | None:
    """Write to ``part``; returns the size of the whole file, None if the server does not say."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing beyond the part that is there
            raise
        announced = error.headers.get("Content-Range", "").rpartition("/")[2]
        if announced == str(start):
            return start
        part.unlink()
        return _fetch(url, part, console)
    with answer:
        if answer.status != 206:
            start = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        _copy(answer, part, start, total, console)
    return total


def _copy(answer: IO[bytes], part: Path, start: int, total: int | None, console: Console) -> None:
    columns = (TextColumn(part.stem), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        part.open("ab" if start else "wb") as sink,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=total, completed=start)
        while block := answer.read(_BLOCK):
            sink.write(block)
            progress.advance(task, len(block))
