"""`folder`: the user's own videos, with masks if there are any."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slotreel.data.files import find_videos, is_video, pictures, visible
from slotreel.data.image_io import IGNORE, image_size, read_image, read_labels
from slotreel.data.layouts import guess
from slotreel.data.stills import checked_numbers, label_stack, stack_frames
from slotreel.data.video_io import VideoIndex, VideoReader, scan_video
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import VideoSource
from slotreel.noise import seed_of
from slotreel.types import RawClip, VideoInfo

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "all")
LAYOUT = (
    "expected VIDEO.mp4 (or webm, mov, avi, mkv) or VIDEO/*.jpg (or jpeg, png, bmp), masks if any "
    "in Annotations/VIDEO/*.png; or JPEGImages[/480p]/VIDEO/*.jpg with Annotations[/480p]"
)


class FolderVideos(VideoSource):
    """Videos and folders of frames below one folder.

        root/
          my video (1).mp4
          SEQ/00000.jpg 00001.jpg ...
          Annotations/SEQ/00000.png ...            ids: 0 background, 255 ignore
          Annotations/my video (1)/00000.png ...   named by frame number, from 0

    The layout of DAVIS (JPEGImages[/480p]/SEQ, Annotations[/480p]/SEQ) is understood too. Masks
    belong to the frame of the same file stem; a frame without one, in a video that has masks, is
    all 255 and not ``annotated``: no score counts it. A video without masks has labels None.
    Frames are sorted naturally.

    Args:
        root: the folder.
        split: "train", "validation" or "all".
        validation_fraction: share of the videos kept for validation, at least one of several; which
            ones depends on the names alone. A single video serves both splits, with a warning.
        include: globs over the names of videos.
        resolution: folder below JPEGImages to take if there are several.
        binary: every id above 0, 255 included, becomes 1: for masks of black and white.

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the folder is missing or holds no video.
    """

    def __init__(
        self,
        root: str,
        split: str = "all",
        validation_fraction: float = 0.1,
        include: Sequence[str] = ("*",),
        resolution: str = "480p",
        binary: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split={split}: choose one of: {', '.join(SPLITS)}")
        if not 0 < validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction={validation_fraction}: expected a share between 0 and 1"
            )
        self.root, self.binary = Path(root), binary
        if not self.root.is_dir():
            raise DataError(
                f"there is no folder {self.root}: {LAYOUT}. Point to it with paths.data=FOLDER or "
                "dataset.source.root=FOLDER"
            )
        davis = (self.root / "JPEGImages").is_dir()
        frames = _below(self.root / "JPEGImages", resolution) if davis else self.root
        self.masks = _below(self.root / "Annotations", resolution)
        found = find_videos(frames)
        found.pop("Annotations", None)
        if not found:
            raise DataError(f"no video in {frames}: {LAYOUT}.{guess(self.root, 'folder')}")
        names = [n for n in found if any(fnmatch.fnmatchcase(n, glob) for glob in include)]
        if not names:
            known = ", ".join(list(found)[:10])
            raise DataError(f"include={list(include)} matches no video of {frames}; it has {known}")
        self.videos = [(n, found[n]) for n in _choose(names, split, validation_fraction)]
        self._pictures: dict[int, list[Path]] = {}
        self._indices: dict[int, VideoIndex] = {}
        self._warned = False

    def __len__(self) -> int:
        """Number of videos of the split."""
        return len(self.videos)

    def info(self, index: int) -> VideoInfo:
        """Name, length and (H, W); reads a video file once to count its frames.

        Raises:
            DataError: a video file is damaged.
        """
        name, path = self.videos[index]
        if is_video(path):
            facts = self._index(index, path)
            return VideoInfo(name, facts.num_frames, facts.size)
        files = self._files(index, path)
        return VideoInfo(name, len(files), image_size(files[0]), tuple(f.stem for f in files))

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Frames and their masks.

        Raises:
            IndexError: there is no such frame.
            DataError: a file is damaged, or frames or masks of one video differ in size.
        """
        name, path = self.videos[index]
        numbers = np.asarray(frames, dtype=np.int64)
        if is_video(path):
            with VideoReader(path, self._index(index, path)) as reader:
                video = reader.read(frames)
            stems = [int(n) for n in numbers]
        else:
            files = self._files(index, path)
            numbers = checked_numbers(str(path), len(files), frames)
            video = stack_frames([(files[n], read_image(files[n])) for n in numbers])
            stems = [files[n].stem for n in numbers]
        labels, annotated = self._labels(name, stems, video.shape[1:3])
        return RawClip(video, labels, numbers, {}, annotated)

    def _labels(
        self, name: str, stems: Sequence[str | int], size: tuple[int, ...]
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Masks (T, H0, W0) of frames named by stem, or by number in a video file; which exist."""
        found = pictures(self.masks / name)
        if not found:
            return None, None
        masks: dict[str | int, Path] = {file.stem: file for file in found}
        masks |= {int(file.stem): file for file in found if file.stem.isdecimal()}
        truth = {
            place: (masks[stem], self._mask(masks[stem]))
            for place, stem in enumerate(stems)
            if stem in masks
        }
        return label_stack(truth, len(stems), size)

    def _mask(self, path: Path) -> np.ndarray:
        ids = read_labels(path)
        if self.binary:
            return (ids > 0).astype(np.uint8)
        if not self._warned and set(np.unique(ids)) == {0, IGNORE}:
            self._warned = True
            log.warning(
                "%s holds 0 and 255 only, and 255 means ignore; if white is the object, set "
                "binary: true (dataset.source.binary=true)", path,
            )  # fmt: skip
        return ids

    def _index(self, index: int, path: Path) -> VideoIndex:
        if index not in self._indices:
            self._indices[index] = scan_video(path)
        return self._indices[index]

    def _files(self, index: int, path: Path) -> list[Path]:
        if index not in self._pictures:
            self._pictures[index] = pictures(path)
        return self._pictures[index]


def _below(folder: Path, resolution: str) -> Path:
    """``folder``, or the resolution below it where its subfolders hold folders."""
    if not folder.is_dir():
        return folder
    levels = [e for e in visible(folder) if e.is_dir() and any(s.is_dir() for s in visible(e))]
    if not levels:
        return folder
    names = [level.name for level in levels]
    if resolution in names:
        return folder / resolution
    if len(names) == 1:
        return levels[0]
    raise DataError(
        f"{folder} holds {', '.join(names)} and not resolution={resolution}; choose one of them"
    )


def _choose(names: list[str], split: str, fraction: float) -> list[str]:
    if split == "all":
        return names
    if len(names) == 1:
        log.warning("there is only one video, %s: train and validation both see it", names[0])
        return names
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    kept = set(sorted(names, key=lambda name: seed_of("validation", name))[:count])
    return [name for name in names if (name in kept) == (split == "validation")]
