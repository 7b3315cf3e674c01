"""Label maps on disk in the layout of DAVIS results: FOLDER/VIDEO/00000.png."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from slotreel.data.image_io import read_labels, write_labels
from slotreel.errors import DataError, nearest
from slotreel.files import replacing
from slotreel.interfaces import Objective, Stream
from slotreel.types import Batch, LossOutput, MaskSource, Prediction, Progress, VideoInfo

LAYOUT = "expected FOLDER/VIDEO/00000.png ..., one palette or grey PNG per frame, value = id"


class StoredMasks(Objective):
    """Answers with label maps that some program left on disk; never looks at the frames.

    A map is found by the name of its frame, or by the frame's number (five digits). Maps of frames
    that no protocol with excluded ends scores may be missing.

    Args:
        folder: holds one folder of PNGs per video.
        ends_may_lack: the first and the last map of a video may be missing; they are empty then.

    Raises:
        DataError: there is no such folder.
    """

    trainable = False

    def __init__(self, folder: str | Path, *, ends_may_lack: bool = False) -> None:
        super().__init__()
        self.folder, self.ends_may_lack = Path(folder), ends_may_lack
        if not self.folder.is_dir():
            raise DataError(f"results={folder}: there is no such folder; {LAYOUT}")

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Refused: there is nothing to train.

        Raises:
            DataError: always.
        """
        raise DataError("stored masks have nothing to train; score them with ./eval.py results=DIR")

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video.

        Raises:
            DataError: the folder has nothing of that name.
        """
        folder = self.folder / video.id
        if not folder.is_dir():
            known = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
            raise DataError(
                f"{self.folder} has no folder for video {video.id!r}; "
                f"{nearest(video.id, known) if known else 'it holds no folder at all'}; {LAYOUT}"
            )
        return _StoredStream(folder, video, self.ends_may_lack)

    def mask_source(self, masks: MaskSource = "auto") -> str:
        """Says where the masks come from."""
        return "results folder"


class _StoredStream(Stream):
    def __init__(self, folder: Path, video: VideoInfo, ends_may_lack: bool) -> None:
        self.folder, self.video, self.ends_may_lack = folder, video, ends_may_lack
        self.done = 0

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """As many stored maps as there are frames."""
        first = self.done
        self.done += len(frames)
        return [Prediction(t, labels=self._read(t)) for t in range(first, self.done)]

    def _read(self, t: int) -> np.ndarray:
        name = self.video.frame_name(t)
        files = [self.folder / f"{name}.png", self.folder / f"{t:05d}.png"]
        found = next((file for file in files if file.is_file()), None)
        if found is None and self.ends_may_lack and t in (0, self.video.num_frames - 1):
            return np.zeros(self.video.size, dtype=np.uint8)
        if found is None:
            raise DataError(
                f"{self.folder} has no map {name}.png: frame {t} of {self.video.num_frames} of "
                f"video {self.video.id!r} would not be scored; write a map for every frame"
            )
        labels = read_labels(found)
        if labels.shape != self.video.size:
            raise DataError(
                f"{found} is {labels.shape[0]} x {labels.shape[1]}, but the frames of "
                f"{self.video.id!r} are {self.video.size[0]} x {self.video.size[1]}; write label "
                "maps at the size of the frames"
            )
        return labels


def save_labels(folder: Path, video: VideoInfo, frame: int, labels: np.ndarray) -> None:
    """Write one label map where ``StoredMasks`` and the official tools look for it.

    Args:
        folder: of all results.
        video: whose frame it is.
        frame: number of the frame.
        labels: uint8 (H, W).
    """
    with replacing(folder / video.id / f"{video.frame_name(frame)}.png") as temporary:
        write_labels(temporary, labels)
