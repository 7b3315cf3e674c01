#!/usr/bin/env python
"""Bring published DAVIS archives into the layout that `davis2016` and `davis2017` read.

    python scripts/prepare_davis.py --root data/davis DAVIS-2017-trainval-480p.zip
    python scripts/prepare_davis.py --root data/davis --check

Give any number of archives (2016, 2017, 2017 unsupervised) or folders they were extracted to; they
are merged. Files already there are skipped, so an interrupted run is simply started again. At the
end every split list is checked against the frames and masks on disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from rich.console import Console
from rich.progress import track

from slotreel.data.image_io import IMAGE_SUFFIXES
from slotreel.data.sources.davis import ANNOTATIONS, YEARS, Davis
from slotreel.errors import DataError, UserError

PICTURES = ("JPEGImages", *ANNOTATIONS)
# sequences and frames of the published lists, to tell a partial copy
PUBLISHED = {
    (2016, "train"): (30, 2079),
    (2016, "val"): (20, 1376),
    (2017, "train"): (60, 4209),
    (2017, "val"): (30, 1999),
}


class Item(NamedTuple):
    """A file to be brought to ``target``, a path below the root."""

    target: PurePosixPath
    size: int  # bytes
    open: Callable[[], IO[bytes]]


def safe_path(member: str, archive: Path) -> PurePosixPath:
    """Name of an archive's member as a path that stays below the root.

    Raises:
        DataError: it is absolute or climbs out.
    """
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in member:
        raise DataError(
            f"{archive}: the member {member!r} would be written outside the folder, which no DAVIS "
            "archive does; nothing was extracted, download it again from davischallenge.org"
        )
    return path


def place(path: PurePosixPath, resolution: str) -> PurePosixPath | None:
    """Where a published file belongs below the root; None if it is not needed.

    The folder around the archive's content (DAVIS/, DAVIS-2017/) is dropped.
    """
    parts = path.parts
    tops = [i for i, part in enumerate(parts) if part in (*PICTURES, "ImageSets")]
    if not tops:
        return None
    kept = PurePosixPath(*parts[tops[0] :])
    if kept.parts[0] == "ImageSets":
        return kept if kept.suffix == ".txt" and len(kept.parts) == 3 else None
    wanted = len(kept.parts) == 4 and kept.parts[1] == resolution
    return kept if wanted and kept.suffix.lower() in IMAGE_SUFFIXES else None


def archive_items(archive: zipfile.ZipFile, file: Path, resolution: str) -> Iterator[Item]:
    """Needed members of an archive; all names are checked first."""
    members = [m for m in archive.infolist() if not m.is_dir()]
    paths = [safe_path(member.filename, file) for member in members]
    for member, path in zip(members, paths, strict=True):
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{file}: the member {member.filename!r} is a link; expected files")
        if (target := place(path, resolution)) is not None:
            yield Item(target, member.file_size, partial(archive.open, member))


def folder_items(folder: Path, resolution: str) -> Iterator[Item]:
    """Needed files of an extracted archive."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = place(PurePosixPath(file.relative_to(folder).as_posix()), resolution)
        if target is not None:
            yield Item(target, file.stat().st_size, partial(_open, file))


def _open(file: Path) -> IO[bytes]:
    return file.open("rb")


def bring(items: Iterable[Item], root: Path, what: str, console: Console) -> int:
    """Write what is not there yet, each file under its name only once complete; returns how many.

    The 2016 edition lists pairs of files in ImageSets/480p; they become lists of sequences.
    """
    items, written = list(items), 0
    for item in track(items, what, console=console, disable=not console.is_terminal):
        target = root / item.target
        if item.target.parts[0] == "ImageSets" and item.target.parts[1] not in map(str, YEARS):
            written += _list_of_2016(item, root)
            continue
        if target.is_file() and target.stat().st_size == item.size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        with item.open() as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        os.replace(temporary, target)
        written += 1
    return written


def _list_of_2016(item: Item, root: Path) -> int:
    """`/JPEGImages/480p/bear/00000.jpg /Annotations/...` per line -> one sequence per line."""
    target = root / "ImageSets" / "2016" / item.target.name
    if target.exists() or target.stem not in ("train", "val"):
        return 0
    with item.open() as source:
        lines = source.read().decode("utf-8").splitlines()
    names = [PurePosixPath(line.split()[0]).parent.name for line in lines if line.strip()]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(dict.fromkeys(names)) + "\n", encoding="utf-8")
    return 1


def check(root: Path, resolution: str, console: Console) -> int:
    """Open every list under every kind of masks that is there; returns how many there were.

    Raises:
        DataError: the layout is incomplete; names the file.
    """
    opened = 0
    for year, split in PUBLISHED:
        if not (root / "ImageSets" / str(year) / f"{split}.txt").is_file():
            continue
        for kind in ANNOTATIONS:
            if not (root / kind / resolution).is_dir():
                continue
            if year == 2016 and kind != "Annotations":
                continue
            source = Davis(str(root), year, split, resolution, kind)
            infos = [source.info(i) for i in range(len(source))]
            found = (len(infos), sum(info.num_frames for info in infos))
            note = "complete" if found == PUBLISHED[year, split] else "PARTIAL, published: {} / {}"
            console.print(
                f"{kind} {year} {split}: {found[0]} sequences / {found[1]} frames, "
                + note.format(*PUBLISHED[year, split]),
                highlight=False,
            )
            opened += 1
    if not opened:
        raise DataError(
            f"{root} holds no DAVIS at {resolution}: expected ImageSets/YEAR/SPLIT.txt, "
            f"JPEGImages/{resolution} and Annotations/{resolution}; give an archive, "
            f"`python scripts/prepare_davis.py --root {root} ARCHIVE.zip`"
        )
    return opened


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="*", type=Path, help="DAVIS zip files or folders")
    parser.add_argument("--root", type=Path, required=True, help="folder to write to")
    parser.add_argument("--resolution", default="480p", help="folder below JPEGImages and masks")
    parser.add_argument("--check", action="store_true", help="only verify --root, write nothing")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if options.check and options.archives:
            raise UserError("--check writes nothing: leave the archives out, or leave --check out")
        for archive in options.archives:
            written = _bring_one(archive, options.root, options.resolution, console)
            console.print(f"{archive}: {written} files written", highlight=False)
        check(options.root, options.resolution, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _bring_one(archive: Path, root: Path, resolution: str, console: Console) -> int:
    if archive.is_dir():
        return bring(folder_items(archive, resolution), root, archive.name, console)
    if not archive.is_file():
        raise DataError(f"there is no archive or folder {archive}")
    try:
        with zipfile.ZipFile(archive) as opened:
            items = archive_items(opened, archive, resolution)
            return bring(items, root, archive.name, console)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive}: {error}; download it again") from error


if __name__ == "__main__":
    raise SystemExit(main())
