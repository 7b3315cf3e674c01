"""What is known of a published data set: its files, where they belong, what they should hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NamedTuple

from slotreel.data.prepare.archives import Member
from slotreel.data.stills import StillVideos

IMAGE = r"[^/]+\.(?i:jpg|jpeg|png|bmp)"  # name of a picture, in the patterns of ``Keep``
Kind = Literal["list", "frame", "mask", "shard"]  # a shard holds frames and masks of many videos


class Wish(NamedTuple):
    """What to take of an archive."""

    split: str | None = None  # None = all
    limit: int | None = None  # first videos of each split
    frames_only: bool = False
    side: int | None = None  # shorter side of frames and masks, pixels


class Keep(NamedTuple):
    """A kind of file that is needed, found by its path in an archive."""

    kind: Kind
    pattern: str  # regular expression of the path from some folder on
    video: str = ""  # which video it belongs to (of shards: which split), of the pattern's groups
    target: str = "{path}"  # where it goes; {path} is all that the pattern matched
    convert: Callable[[bytes], bytes] | None = None  # of lists in another form


class Item(NamedTuple):
    """A file on its way to ``target`` below the root."""

    kind: Kind
    video: str
    target: PurePosixPath
    size: int  # bytes
    open: Callable[[], IO[bytes]]
    convert: Callable[[bytes], bytes] | None


class Split(NamedTuple):
    """A part of a data set."""

    sources: Callable[[Path], dict[str, Callable[[], StillVideos]]]  # by what to add to the name
    published: tuple[tuple[int, int | None], ...]  # videos and frames of each edition; None unknown
    named: Callable[[Path], list[str]] | None = None  # its videos by the lists on disk
    folder: str = ""  # or: what the names of its videos begin with, as a folder
    place: str = ""  # where its files are, if not in that folder
    borrows: str = ""  # the folder whose masks serve it too
    counted: Callable[[Path], int | None] | None = None  # videos published, as files on disk tell

    def videos(self, root: Path, there: Sequence[str]) -> list[str]:
        """Its videos in order: those listed, or those ``there`` that lie in its folder."""
        if self.named is not None:
            return self.named(root)
        return [video for video in there if video.startswith(f"{self.folder}/")]

    def exists(self, root: Path) -> bool:
        """Whether anything of it is on disk."""
        if self.named is not None:
            return bool(self.named(root))
        return (root / (self.place or self.folder)).is_dir()


class Recipe(NamedTuple):
    """All that ``scripts/prepare.py NAME`` needs."""

    name: str
    page: str
    keeps: tuple[Keep, ...]
    splits: dict[str, Split]
    urls: tuple[str, ...] = ()  # that need no form and no account
    listed: Callable[[Path, Wish], list[str]] | None = None  # further URLs, from the first file
    by_hand: str = ""  # what to click where there are none
    frame_folders: tuple[str, ...] = ()  # what dataset=folder reads if masks are left out
    resizable: bool = True  # whether the truth is pictures, which scale with the frames
    cut_lists: Callable[[Path], None] | None = None  # leave in the lists only what is on disk
    conflict: Callable[[Path, Sequence[Item]], None] | None = None  # raises DataError
    note: str = ""  # said of a partial copy
    unpack: Callable[[bytes, str, str], Sequence[Item]] | None = None  # record, split, place: video
    announced: Callable[[Path, str], int | None] | None = None  # records of a shard, if known
    facts: Callable[[Any], str] | None = None  # what else to print of a source

    def item(self, member: Member) -> Item | None:
        """Where a member of an archive belongs; None if it is not needed."""
        parts = member.path.parts
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return None
        for keep in self.keeps:
            found = re.search(rf"(?:^|/)(?P<path>{keep.pattern})$", str(member.path), re.ASCII)
            if found:
                groups = found.groupdict()
                video, target = keep.video.format(**groups), keep.target.format(**groups)
                return Item(
                    keep.kind, video, PurePosixPath(target), member.size, member.open, keep.convert
                )
        return None


def lines_of(file: Path) -> list[str]:
    """Lines of a list; [] if there is no such file."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


def cut_lines(file: Path, kept: Collection[str]) -> None:
    """Leave some of the lines in a list; remove the list if that is none."""
    lines = [line for line in lines_of(file) if line in kept]
    if lines:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        file.unlink()
