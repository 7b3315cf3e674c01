"""Annotation files of the COCO family, and what data sets described by one share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slotreel.data.coco_masks import MAX_OBJECTS, PackedMasks, Size, pack
from slotreel.data.image_io import IGNORE
from slotreel.data.stills import StillVideos
from slotreel.errors import DataError
from slotreel.types import VideoInfo

Record = dict[str, Any]


def read_annotations(
    file: Path, shrink: Callable[[Record], Any], needed: tuple[str, ...]
) -> Record:
    """An annotation file, parsed once; what ``shrink`` drops never takes memory.

    Args:
        file: the file.
        shrink: called with every object of the file, inner ones first; returns what to keep.
        needed: names of lists that must be there and not be empty.

    Raises:
        DataError: the file is damaged or of another kind; names it.
    """
    try:
        with file.open(encoding="utf-8") as text:
            content = json.load(text, object_hook=shrink)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}; copy it again from the archive") from error
    for name in needed:
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DataError(f"{file} has no list {name!r}: it is not the annotation file expected")
        if not content[name]:
            raise DataError(
                f"the list {name!r} of {file} is empty: the masks of this split are not public, or "
                "the file is damaged; take the file of train"
            )
    return content


def field(record: Any, name: str, kind: type | tuple[type, ...], file: Path) -> Any:
    """An entry of an object of an annotation file.

    Raises:
        DataError: there is none, or it is of another type.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise DataError(
            f"{file}: {name!r} of {str(record)[:80]} is missing or of another type; copy the file "
            "again from the archive"
        )
    return value


def size_of(record: Any, file: Path) -> Size:
    """(H, W) of a video or picture."""
    return field(record, "height", int, file), field(record, "width", int, file)


class AnnotatedStills(StillVideos):
    """Base of sources whose masks are in one annotation file.

    A subclass fills ``videos``, ``sizes`` and, frame after frame, ``masks``, then calls
    ``finish``. Pixels of two masks are 255: which of the two is in front is not known.

    Attributes:
        sizes: (H, W) of each video.
        masks: of all frames of all videos.
    """

    file: Path
    sizes: list[Size]
    masks: PackedMasks
    _first: np.ndarray

    def finish(self) -> None:
        """Number the frames, and compare up to 50 masks with their frames' sizes.

        Raises:
            DataError: a size differs; names the file.
        """
        lengths = [len(video.frames) for video in self.videos]
        self._first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.check_masks()

    def info(self, index: int) -> VideoInfo:
        """Name, length, (H, W) and file stems of a video; reads no file."""
        name, frames, _ = self.videos[index]
        return VideoInfo(name, len(frames), self.sizes[index], tuple(f.stem for f in frames))

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Labels uint8 (H, W) of a frame."""
        try:
            return self.masks.labels(int(self._first[index]) + frame, self.sizes[index])
        except ValueError as error:
            raise self._damaged(f"frame {frame} of {self.videos[index].id}", error) from error

    def add(self, label: int, mask: Any, size: Size, where: str, crowd: bool = False) -> None:
        """Keep a mask of the frame being filled; that of a crowd is 255.

        Raises:
            DataError: the mask cannot be, or there are more than 254 in the frame.
        """
        if label > MAX_OBJECTS:
            raise DataError(f"{self.file}: {where}: expected at most {MAX_OBJECTS} objects")
        try:
            self.masks.add(IGNORE if crowd else label, pack(mask, size))
        except ValueError as error:
            raise self._damaged(where, error) from error

    def lacks(self, folder: Path, missing: list[str], total: int) -> DataError:
        """The error for frames that the annotation file names and the folder has not."""
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return self.differs(
            f"{folder} lacks {len(missing)} of the {total} frames of {self.file}: "
            f"{', '.join(missing[:5])}{more}"
        )

    def _damaged(self, where: str, error: ValueError) -> DataError:
        return DataError(f"{self.file}: {where}: {error}; copy the file again from the archive")
