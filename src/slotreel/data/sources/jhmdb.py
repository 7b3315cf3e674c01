"""`jhmdb`: J-HMDB, people with 15 joints, as `scripts/prepare.py jhmdb` leaves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from slotreel.data.files import pictures
from slotreel.data.stills import Still, StillVideos, read_frames
from slotreel.errors import ConfigError, DataError
from slotreel.types import RawClip

CODES = {"train": "1", "test": "2"}
FOLDS = (1, 2, 3)
NUM_JOINTS = 15


class Jhmdb(StillVideos):
    """Videos of one action each; hint "keypoints" (T, 15, 2) has the joints, labels are None.

    Source: Jhuang et al., "Towards understanding action recognition", ICCV 2013. The layout is
    checked on opening, the number of joints when a video is read:

        root/splits/CLASS_test_split1.txt                     lines `VIDEO.avi 1|2`, 1 is train
        root/Rename_Images/CLASS/VIDEO/00001.png
        root/joint_positions/CLASS/VIDEO/joint_positions.mat  pos_img (2, 15, T), pixels from 1

    Keypoints are x y in pixels from 0, float64: 1 is taken off. Those outside the frame stay so.

    Args:
        root: the folder.
        split: "train" or "test".
        fold: 1, 2 or 3.

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(self, root: str, split: str = "train", fold: int = 1) -> None:
        if split not in CODES:
            raise ConfigError(f"split={split}: choose one of: {', '.join(CODES)}")
        if fold not in FOLDS:
            raise ConfigError(f"fold={fold}: choose one of: 1, 2, 3")
        self.option, self.root = "jhmdb", Path(root)
        for part in ("splits", "Rename_Images", "joint_positions"):
            if not (self.root / part).is_dir():
                raise self.differs(f"there is no folder {self.root / part}")
        lists = sorted((self.root / "splits").glob(f"*_test_split{fold}.txt"))
        if not lists:
            raise self.differs(f"there is no list {self.root}/splits/CLASS_test_split{fold}.txt")
        names = [name for file in lists for name in self._chosen(file, CODES[split])]
        if not names:
            raise self.differs(f"the lists of fold {fold} in {self.root}/splits name no {split}")
        self.videos = [self._found(name) for name in names]
        self._joints: dict[int, np.ndarray] = {}

    def _chosen(self, file: Path, code: str) -> list[str]:
        """CLASS/VIDEO of the lines with a code."""
        action = file.name.rpartition("_test_split")[0]
        chosen = []
        for line in self.listed(file):
            fields = re.fullmatch(r"(.+?)(?:\.avi)?\s+([012])", line)
            if fields is None:
                raise self.differs(f"{file} has the line {line!r}, expected `VIDEO.avi 1|2`")
            if fields[2] == code:
                chosen.append(f"{action}/{fields[1]}")
        return chosen

    def _found(self, name: str) -> Still:
        frames = pictures(self.root / "Rename_Images" / name)
        if not frames:
            raise self.differs(f"{self.root / 'Rename_Images' / name} holds no frame")
        joints = self.root / "joint_positions" / name / "joint_positions.mat"
        if not joints.is_file():
            raise self.differs(f"there is no file {joints}")
        return Still(name.replace("/", "-"), frames, [(joints,)] * len(frames))

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Frames and their joints.

        Raises:
            IndexError: there is no such frame.
            DataError: a file is damaged, or sizes or counts differ within the video.
        """
        numbers, video = read_frames(self.videos[index], frames)
        return RawClip(video, None, numbers, {"keypoints": self.joints(index)[numbers]})

    def joints(self, index: int) -> np.ndarray:
        """Joints float64 (T, 15, 2) of a whole video.

        Raises:
            DataError: the file is damaged or does not fit the frames.
        """
        if index not in self._joints:
            video = self.videos[index]
            self._joints[index] = _read_joints(video.masks[0][0], len(video.frames))
        return self._joints[index]


def _read_joints(file: Path, num_frames: int) -> np.ndarray:
    try:
        positions = np.asarray(loadmat(file)["pos_img"], dtype=np.float64)
    except Exception as error:  # scipy raises whatever it stumbles over
        raise DataError(f"cannot read pos_img of {file}: {error!r}; copy it again") from error
    if positions.shape != (2, NUM_JOINTS, num_frames):
        raise DataError(
            f"{file}: pos_img is {positions.shape}, but the video has {num_frames} frames: "
            f"expected (2, {NUM_JOINTS}, {num_frames}); copy frames and joints again"
        )
    return positions.transpose(2, 1, 0) - 1
