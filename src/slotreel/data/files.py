"""Finding videos and frames in folders, with names sorted as people do."""

from __future__ import annotations

import re
from pathlib import Path

from slotreel.data.image_io import IMAGE_SUFFIXES
from slotreel.data.video_io import VIDEO_SUFFIXES


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in natural order, without hidden ones."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entries, key=lambda entry: (natural_key(entry.name), entry.name))


def pictures(folder: Path) -> list[Path]:
    """Frames of a folder in natural order; [] if it is no folder."""
    return [e for e in visible(folder) if is_picture(e)] if folder.is_dir() else []


def is_picture(path: Path) -> bool:
    """Whether the name is that of a frame."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_video(path: Path) -> bool:
    """Whether this is a file with the name of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def find_videos(root: Path) -> dict[str, Path]:
    """Videos of a folder: name -> video file or folder of frames.

    The name is that of the file without its suffix, or with it where two would be the same.
    """
    found = [e for e in visible(root) if is_video(e) or (e.is_dir() and pictures(e))]
    stems = [e.stem if e.is_file() else e.name for e in found]
    names = [
        stem if stems.count(stem) == 1 else entry.name
        for stem, entry in zip(stems, found, strict=True)
    ]
    return dict(zip(names, found, strict=True))
