"""`movi_a` to `movi_f`: MOVi as `scripts/prepare.py` leaves it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slotreel.data.files import visible
from slotreel.data.stills import StillVideos
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.types import RawClip

VARIANTS = {"a": 10, "b": 10, "c": 10, "d": 23, "e": 23, "f": 23}  # most objects of a video
SPLITS = ("train", "validation", "test")


class Movi(StillVideos):
    """Rendered videos of falling objects with ids, boxes and visibility of every frame.

    Source: Greff et al., "Kubric: a scalable dataset generator", CVPR 2022. The layout is checked
    on opening:

        root/movi_c-SPLIT/JPEGImages/ID/00000.png
        root/movi_c-SPLIT/Annotations/ID/00000.png    0 background, m + 1 for object m
        root/movi_c-SPLIT/Instances/ID.npz            boxes (T, M, 4), visibility (T, M) in pixels

    Hints are "boxes" (T, M, 4), ymin xmin ymax xmax as fractions of the frame, and "visibility"
    (T, M), both float32, with M = 10 (a, b, c) or 23 (d, e, f); entry m belongs to label m + 1 and
    is zero where the object is out of sight or there are fewer objects.

    Differs: what is published is how many pixels of an object are seen, not how many there would be
    without occlusion; "visibility" is that number over the largest one of the object's video.

    Args:
        root: the folder.
        variant: "a" to "f".
        split: "train", "validation" or "test".

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(self, root: str, variant: str = "c", split: str = "train") -> None:
        if variant not in VARIANTS:
            raise ConfigError(f"variant={variant}: choose one of: {', '.join(VARIANTS)}")
        if split not in SPLITS:
            raise ConfigError(f"split={split}: {nearest(split, SPLITS)}")
        self.option, self.root, self.max_objects = f"movi_{variant}", Path(root), VARIANTS[variant]
        folder = self.root / f"{self.option}-{split}"
        frames, masks, self.instances = (
            folder / kind for kind in ("JPEGImages", "Annotations", "Instances")
        )
        for part in (frames, masks, self.instances):
            if not part.is_dir():
                raise self.differs(f"there is no folder {part}")
        names = [entry.name for entry in visible(frames) if entry.is_dir()]
        if not names:
            raise self.differs(f"{frames} holds no video")
        lacking = sorted(set(names) - {file.stem for file in visible(self.instances)})
        if lacking:
            raise self.differs(
                f"{self.instances} lacks {len(lacking)} of {len(names)} videos, e.g. "
                f"{lacking[0]}.npz"
            )
        self.videos = [self.match(n, frames / n, masks / n, every=True) for n in names]
        self.check_masks()

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Frames, ids and hints; nothing else of the video is decoded.

        Raises:
            IndexError: there is no such frame.
            DataError: a file is damaged, or sizes or counts differ within the video.
        """
        clip = super().read(index, frames)
        boxes, pixels = self._instances(index)
        most = np.maximum(pixels.max(axis=0, initial=0), 1)
        hints = {"boxes": boxes, "visibility": (pixels / most).astype(np.float32)}
        spare = self.max_objects - boxes.shape[1]
        return clip._replace(
            hints={
                name: np.pad(hint[clip.frames], ((0, 0), (0, spare)) + ((0, 0),) * (hint.ndim - 2))
                for name, hint in hints.items()
            }
        )

    def num_objects(self, index: int) -> int:
        """Number of objects of a video, seen or not.

        Raises:
            DataError: the file is damaged.
        """
        return self._instances(index)[0].shape[1]

    def _instances(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32 (T, M', 4) and visible pixels int64 (T, M') of a whole video."""
        video = self.videos[index]
        file = self.instances / f"{video.id}.npz"
        try:
            with np.load(file) as stored:
                boxes, pixels = stored["boxes"], stored["visibility"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"cannot read {file}: {error!r}; run prepare.py again") from error
        count = pixels.shape[-1]
        wanted = ((len(video.frames), count, 4), (len(video.frames), count))
        if (boxes.shape, pixels.shape) != wanted or count > self.max_objects:
            raise DataError(
                f"{file}: boxes {boxes.shape} and visibility {pixels.shape}, expected "
                f"{len(video.frames)} frames of at most {self.max_objects} objects: is this "
                f"{self.option}?"
            )
        return boxes, pixels
