"""`segtrack_v2`: SegTrack-v2 as `scripts/prepare.py segtrack_v2` leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slotreel.data.files import pictures, visible
from slotreel.data.image_io import IGNORE, read_image
from slotreel.data.stills import Still, StillVideos, stack_frames
from slotreel.errors import ConfigError, nearest

SEQUENCES = (
    "bird_of_paradise", "birdfall", "bmx", "cheetah", "drift", "frog", "girl", "hummingbird",
    "monkey", "monkeydog", "parachute", "penguin", "soldier", "worm",
)  # fmt: skip


class SegTrackV2(StillVideos):
    """Videos with one binary mask per object and frame.

    Source: Li et al., "Video segmentation by tracking many figure-ground segments", ICCV 2013. The
    layout is checked on opening:

        root/JPEGImages/SEQ/*.{png,jpg,bmp}
        root/GroundTruth/SEQ/*.png                    one object
        root/GroundTruth/SEQ/{1,2,...}/*.png          several

    Names of masks differ from those of frames in places: both are sorted naturally and matched by
    order. Every pixel of a mask that is not black belongs to the object.

    Args:
        root: the folder.
        sequences: names; None takes all 14.
        merge: labels 1 for any object, as single-object scores want it; else object ids 1, 2, ...
            in the order of the folders, and 255 where objects overlap.

    Raises:
        ConfigError: there is no such sequence.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(
        self, root: str, sequences: Sequence[str] | None = None, merge: bool = True
    ) -> None:
        self.option, self.root, self.merge = "segtrack_v2", Path(root), merge
        names = list(SEQUENCES if sequences is None else sequences)
        for name in names:
            if name not in SEQUENCES:
                raise ConfigError(f"sequences: {name} is none of 14; {nearest(name, SEQUENCES)}")
        frames, masks = self.root / "JPEGImages", self.root / "GroundTruth"
        for folder in (frames, masks):
            if not folder.is_dir():
                raise self.differs(f"there is no folder {folder}")
        lacking = [n for n in names if not ((frames / n).is_dir() and (masks / n).is_dir())]
        if lacking:
            there = ",".join(name for name in names if name not in lacking)
            raise self.differs(
                f"{len(names) - len(lacking)} of {len(names)} sequences are there, without "
                f"{', '.join(lacking)}; to go on with those, type "
                f"dataset.source.sequences=[{there}]"
            )
        self.videos = [self._matched(name, frames / name, masks / name) for name in names]
        self.check_masks()

    def _matched(self, name: str, frames: Path, masks: Path) -> Still:
        shown = pictures(frames)
        objects = [entry for entry in visible(masks) if entry.is_dir()] or [masks]
        for folder in objects:
            count = len(pictures(folder))
            if not shown or count != len(shown):
                raise self.differs(
                    f"{name} has {len(shown)} frames in {frames} but {count} masks in {folder}; "
                    "they are matched by order, so one mask per frame is needed"
                )
        return Still(name, shown, list(zip(*map(pictures, objects), strict=True)))

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Labels uint8 (H, W) of a frame."""
        files = self.videos[index].masks[frame]
        pixels = stack_frames([(file, read_image(file)) for file in files])  # (N, H, W, 3)
        objects = np.any(pixels > 0, axis=3)
        labels = np.zeros(objects.shape[1:], dtype=np.uint8)
        for number, inside in enumerate(objects, start=1):
            taken = labels > 0
            labels[inside] = 1 if self.merge else number
            if not self.merge:
                labels[inside & taken] = IGNORE
        return labels
