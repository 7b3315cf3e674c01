"""What ``predict`` is given: a video, a folder of frames, a folder of either, or a glob."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slotreel.data.files import find_videos, is_picture, is_video, pictures
from slotreel.data.image_io import image_size, read_image
from slotreel.data.sources.folder import LAYOUT
from slotreel.data.video_io import VideoReader
from slotreel.errors import DataError
from slotreel.types import VideoInfo


class InputVideo(NamedTuple):
    """One video to be streamed."""

    name: str  # unique among the inputs
    path: Path  # the video file, or the folder of frames
    frames: Callable[[], Iterator[np.ndarray]]  # reads it anew: uint8 (H, W, 3) one by one
    info: VideoInfo
    fps: float | None  # None for a folder of frames


def open_input(path: str) -> list[InputVideo]:
    """Videos at a path; files are opened one after the other, as their frames are asked for.

    Args:
        path: a video file, a folder of frames, a folder of videos and folders of frames, or a glob
            over any of these; frames that match a glob make one video per folder. A path that
            exists is taken as it is, whatever characters it holds.

    Raises:
        DataError: nothing is there, or a video file is damaged.
    """
    place = Path(path)
    if place.exists():
        found = _expand(place)
        if not found:
            raise DataError(f"{place} is neither a video nor holds any: {LAYOUT}")
    else:
        matches = [Path(match) for match in sorted(glob.glob(path))]
        if not matches:
            raise DataError(f"there is no file or folder {path}, nor does it match as a glob")
        stills: dict[Path, list[Path]] = {}
        found = []
        for match in matches:
            if match.is_file() and is_picture(match):
                stills.setdefault(match.parent, []).append(match)
            else:
                found += _expand(match)
        for folder, files in stills.items():
            chosen = set(files)
            found.append((folder.name, [f for f in pictures(folder) if f in chosen]))
        if not found:
            raise DataError(f"none of the {len(matches)} matches of {path} is a video: {LAYOUT}")
    return [_open(name, video) for name, video in _unique(found)]


def _expand(path: Path) -> list[tuple[str, Path | list[Path]]]:
    """Videos at an existing path; [] if there are none."""
    if is_video(path):
        return [(path.stem, path)]
    if not path.is_dir():
        return []
    if files := pictures(path):
        return [(path.resolve().name, files)]
    return [
        (name, video if video.is_file() else pictures(video))
        for name, video in find_videos(path).items()
    ]


def _unique(
    found: list[tuple[str, Path | list[Path]]],
) -> Iterator[tuple[str, Path | list[Path]]]:
    """Names with -2, -3, ... behind those already taken."""
    taken: set[str] = set()
    for name, video in found:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.add(unique)
        yield unique, video


def _open(name: str, video: Path | list[Path]) -> InputVideo:
    if isinstance(video, Path):
        reader = VideoReader(video)
        info = VideoInfo(name, reader.num_frames, reader.size)
        return InputVideo(name, video, reader.iterate, info, reader.fps)
    stems = tuple(file.stem for file in video)
    names = stems if len(set(stems)) == len(stems) else ()  # 1.jpg beside 1.png: count instead
    info = VideoInfo(name, len(video), image_size(video[0]), names)
    return InputVideo(name, video[0].parent, partial(_stills, video, info.size), info, None)


def _stills(files: list[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    for file in files:
        image = read_image(file)
        if image.shape[:2] != size:
            raise DataError(
                f"{file} is {image.shape[0]} x {image.shape[1]}, but {files[0].name} of the same "
                f"video is {size[0]} x {size[1]}: give all the same size"
            )
        yield image
