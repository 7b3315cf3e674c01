"""Members of zip and tar archives and of folders, checked before anything is written."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from slotreel.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Member(NamedTuple):
    """One file of an archive."""

    path: PurePosixPath  # begins with the name of the archive, which some need as a folder
    size: int  # bytes
    open: Callable[[], IO[bytes]]


def safe_path(name: str, archive: Path) -> PurePosixPath:
    """Name of an archive's member as a path that stays below the folder it is extracted to.

    Raises:
        DataError: it is absolute or climbs out.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise DataError(
            f"{archive}: the member {name!r} would be written outside the folder, which no "
            "published archive does; nothing was extracted, download it again from the official "
            "page"
        )
    return path


@contextmanager
def opened(archive: Path) -> Iterator[list[Member]]:
    """Members of an archive, files of a folder, or one TFRecord file, in the order they are stored.

    Raises:
        DataError: there is no such file, it is damaged or of another kind, a member is a link or
            would be written outside.
    """
    name = archive.name.lower()
    if archive.is_dir():
        yield _of_folder(archive)
    elif not archive.is_file():
        raise DataError(f"there is no archive or folder {archive}")
    elif name.endswith(".rar"):
        raise DataError(
            f"{archive} is a RAR archive, which Python cannot open: extract it (`unrar x "
            f"{archive.name}` or `7z x {archive.name}`) and give the folder instead"
        )
    elif name.endswith((".zip", *TAR_SUFFIXES)):
        with ExitStack() as stack:
            with named(archive):
                if name.endswith(".zip"):
                    members = _of_zip(stack.enter_context(zipfile.ZipFile(archive)), archive)
                else:
                    members = _of_tar(stack.enter_context(tarfile.open(archive)), archive)
            yield members
    elif ".tfrecord" in name:
        yield [Member(PurePosixPath(archive.name), archive.stat().st_size, partial(_read, archive))]
    else:
        raise DataError(
            f"{archive}: expected a .zip, {', '.join(TAR_SUFFIXES)}, .tfrecord-* or a folder; "
            "extract it and give the folder"
        )


@contextmanager
def named(archive: Path) -> Iterator[None]:
    """Turn damage that reading an archive meets into an error that names it.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: {error}; download it again") from error


def _stem(archive: Path) -> PurePosixPath:
    name = archive.resolve().name
    for suffix in (".zip", *sorted(TAR_SUFFIXES, key=len, reverse=True)):
        if name.lower().endswith(suffix):
            return PurePosixPath(name[: -len(suffix)])
    return PurePosixPath(name)


def _of_folder(folder: Path) -> list[Member]:
    return [
        Member(
            _stem(folder) / file.relative_to(folder).as_posix(),
            file.stat().st_size,
            partial(_read, file),
        )
        for file in sorted(path for path in folder.rglob("*") if path.is_file())
    ]


def _read(file: Path) -> IO[bytes]:
    return file.open("rb")


def _of_zip(opened: zipfile.ZipFile, archive: Path) -> list[Member]:
    members = [member for member in opened.infolist() if not member.is_dir()]
    paths = [safe_path(member.filename, archive) for member in members]
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _link(member.filename, archive)
    return [
        Member(_stem(archive) / path, member.file_size, partial(opened.open, member))
        for member, path in zip(members, paths, strict=True)
    ]


def _of_tar(opened: tarfile.TarFile, archive: Path) -> list[Member]:
    members = [member for member in opened.getmembers() if not member.isdir()]
    paths = [safe_path(member.name, archive) for member in members]
    for member in members:
        if not member.isfile():
            raise _link(member.name, archive)
    return [
        Member(_stem(archive) / path, member.size, partial(_extract, opened, member))
        for member, path in zip(members, paths, strict=True)
    ]


def _extract(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = opened.extractfile(member)
    assert file is not None  # only links and devices have none, and they were refused
    return file


def _link(name: str, archive: Path) -> DataError:
    return DataError(f"{archive}: the member {name!r} is a link or device; expected files")
