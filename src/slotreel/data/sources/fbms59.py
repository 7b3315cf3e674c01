"""`fbms59`: the Freiburg-Berkeley set as `scripts/prepare.py fbms59` leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slotreel.data.files import pictures, visible
from slotreel.data.region_codes import (
    annotation_files,
    background_code,
    defined_codes,
    read_codes,
)
from slotreel.data.stills import Still, StillVideos
from slotreel.errors import ConfigError, DataError, nearest

FOLDERS = {"train": "Trainingset", "test": "Testset"}
BACKGROUNDS = ("auto", "zero", "largest")
MAX_REGIONS = 254


class Fbms59(StillVideos):
    """Videos with about every 20th frame annotated, at sizes that differ from video to video.

    Source: Ochs, Malik, Brox, "Segmentation of moving objects by long term video analysis", PAMI
    2014. The layout is checked on opening:

        root/{Trainingset,Testset}/SEQ/*.jpg
        root/{Trainingset,Testset}/SEQ/GroundTruth/*.{ppm,png,pgm} [*.dat]

    The last number of an annotation's name, minus that of the first, is its frame. Of several files
    for a frame, colour (.ppm) goes before grey, because a grey one may merge objects; PROB files
    are no annotation. Frames without annotation are all 255 and not ``annotated``.

    Which code is background: with ``auto``, the first region of the definition file (*.dat; codes
    it does not list are background too); without such a file, whichever of 0 and the largest code
    covers more of the outermost pixels of the sequence's annotations.

    Args:
        root: the folder.
        split: "train" or "test".
        merge: labels 1 for every object, as single-object scores want it; else ids 1, 2, ... by
            rising code, the same in all frames of a video.
        background: auto, zero (code 0) or largest (the largest code of the sequence).

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(
        self, root: str, split: str = "train", merge: bool = True, background: str = "auto"
    ) -> None:
        if split not in FOLDERS:
            raise ConfigError(f"split={split}: choose one of: {', '.join(FOLDERS)}")
        if background not in BACKGROUNDS:
            raise ConfigError(f"background={background}: {nearest(background, BACKGROUNDS)}")
        self.option, self.root, self.merge = "fbms59", Path(root), merge
        self.background = background
        self._objects: dict[int, list[int]] = {}  # codes of label 1, 2, ... of a video
        folder = self.root / FOLDERS[split]
        if not folder.is_dir():
            raise self.differs(f"there is no folder {folder}")
        sequences = [entry for entry in visible(folder) if entry.is_dir()]
        if not sequences:
            raise self.differs(f"{folder} holds no sequence")
        self.videos = [self._found(sequence) for sequence in sequences]
        self.check_masks()

    def _found(self, folder: Path) -> Still:
        frames = pictures(folder)
        truth = annotation_files(folder / "GroundTruth")
        if not frames or not truth:
            raise self.differs(
                f"{folder.name} has {len(frames)} frames in {folder} and {len(truth)} annotations "
                "in GroundTruth"
            )
        masks: list[tuple[Path, ...]] = [()] * len(frames)
        first = min(truth)
        for number, file in truth.items():
            if number - first >= len(frames):
                raise self.differs(
                    f"{file} would belong to frame {number - first}, but {folder} has "
                    f"{len(frames)} frames"
                )
            masks[number - first] = (file,)
        return Still(folder.name, frames, masks)

    def ids(self, index: int, frame: int) -> np.ndarray:
        """Labels uint8 (H, W) of an annotated frame."""
        codes = read_codes(self.videos[index].masks[frame][0])
        if index not in self._objects:
            self._objects[index] = self._find_objects(index)
        labels = np.zeros(codes.shape, dtype=np.uint8)
        for number, code in enumerate(self._objects[index], start=1):
            labels[codes == code] = 1 if self.merge else number
        return labels

    def _find_objects(self, index: int) -> list[int]:
        """Codes of a sequence that are not background; reads all its annotations once."""
        video = self.videos[index]
        maps = [read_codes(files[0]) for files in video.masks if files]
        codes = sorted({int(code) for codes in maps for code in np.unique(codes)})
        defined = defined_codes(video.frames[0].parent / "GroundTruth")
        if self.background == "zero":
            background = 0
        elif self.background == "largest":
            background = codes[-1]
        else:
            background = defined[0] if defined else background_code(maps)
        known = set(defined) if defined and self.background == "auto" else set(codes)
        objects = sorted((known & set(codes)) - {background})
        if len(objects) > MAX_REGIONS:
            raise DataError(
                f"{video.id} has {len(objects)} codes in {video.frames[0].parent / 'GroundTruth'}, "
                f"expected at most {MAX_REGIONS} regions: the files are not annotations, or were "
                "saved with loss; copy them again"
            )
        return objects
