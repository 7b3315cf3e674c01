"""The files of one predicted video: label maps, videos to look at, slots to work with."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from slotreel.data.image_io import write_labels
from slotreel.data.video_write import VideoWriter
from slotreel.files import replacing
from slotreel.inference.background import BackgroundRule
from slotreel.inference.views import LARGEST_PX, Draw, make_view
from slotreel.streaming import hard_labels
from slotreel.types import Prediction, VideoInfo

SLOT_FRAMES = 256  # frames per file of slots


class Drawing(NamedTuple):
    """The videos to look at."""

    views: tuple[str, ...] = ("overlay",)  # of slotreel.inference.views.VIEWS
    format: Literal["mp4", "gif"] = "mp4"
    fps: float = 25.0
    gif_width: int = 480  # wider GIFs are shrunk to it
    num_slots: int = 0  # cells of view ``slots`` for models that predict labels only

    def paths(self, folder: Path) -> list[Path]:
        """The videos' files."""
        return [folder / f"{view}.{self.format}" for view in self.views]


@contextmanager
def writing(
    folder: Path, info: VideoInfo, background: BackgroundRule, drawing: Drawing
) -> Iterator[VideoFiles]:
    """The files of one video, complete at the end of a block that does not fail.

    Every file appears under its name only once it is complete. At the end, numbered label maps and
    slots that an earlier run left in the folder are removed; a block that fails leaves the label
    maps and slots written so far, and videos as they were.

    Args:
        folder: where they go; made if it is missing.
        info: names of the frames.
        background: which slot becomes label 0.
        drawing: which videos.
    """
    width = drawing.gif_width if drawing.format == "gif" else None
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        videos = [
            (
                make_view(view, drawing.num_slots, width or LARGEST_PX),
                stack.enter_context(VideoWriter(path, drawing.fps, max_width=width)),
            )
            for view, path in zip(drawing.views, drawing.paths(folder), strict=True)
        ]
        files = VideoFiles(folder, info, background, videos)
        yield files
        files.finish()


class VideoFiles:
    """What ``writing`` gives.

    Args:
        folder: exists.
        info: names of the frames.
        background: which slot becomes label 0.
        videos: what draws each video, and the video.

    Attributes:
        done: frames that came in so far.
    """

    def __init__(
        self,
        folder: Path,
        info: VideoInfo,
        background: BackgroundRule,
        videos: list[tuple[Draw, VideoWriter]],
    ) -> None:
        self.folder, self.info, self.videos = folder, info, videos
        self.done = 0
        self._dropping = background.stream()
        self._held: deque[tuple[np.ndarray, Prediction]] = deque()  # until the background is known
        self._slots: list[Prediction] = []
        self._written: dict[str, set[str]] = {"masks": set(), "slots": set()}  # names of files

    def write(self, frame: np.ndarray, prediction: Prediction) -> None:
        """The next frame uint8 (H, W, 3) and what the model says about it."""
        labels = hard_labels(prediction, (frame.shape[0], frame.shape[1]))
        self._held.append((frame, _to_cpu(prediction)))
        self.done += 1
        for ready in self._dropping.push(labels):
            self._store(*self._held.popleft(), ready)

    def finish(self) -> None:
        """The frames that wait, the last slots; removes what an earlier run left."""
        for ready in self._dropping.finish():
            self._store(*self._held.popleft(), ready)
        self._store_slots()
        for kind, names in self._written.items():
            _remove_others(self.folder / kind, names)

    def _store(self, frame: np.ndarray, prediction: Prediction, labels: np.ndarray) -> None:
        with replacing(self._path("masks", f"{self.info.frame_name(prediction.frame)}.png")) as to:
            write_labels(to, labels)
        for draw, video in self.videos:
            video.write(draw(frame, labels, prediction))
        self._slots.append(prediction)
        if len(self._slots) == SLOT_FRAMES:
            self._store_slots()

    def _store_slots(self) -> None:
        """One file of what the frames since the last one have besides labels."""
        columns: dict[str, Any] = {}
        for name in ("slots", "masks"):
            values = [getattr(prediction, name) for prediction in self._slots]
            if values and all(value is not None for value in values):
                columns[name] = torch.stack(values).numpy()
        if columns:
            first = self._slots[0].frame
            columns["frames"] = np.array([one.frame for one in self._slots], dtype=np.int64)
            with replacing(self._path("slots", f"{first:06d}.npz")) as temporary:
                np.savez_compressed(temporary, **columns)
        self._slots = []

    def _path(self, kind: str, name: str) -> Path:
        self._written[kind].add(name)
        return self.folder / kind / name


def _to_cpu(prediction: Prediction) -> Prediction:
    """Off the device, and no larger than it will be stored."""
    slots, masks = prediction.slots, prediction.masks
    return prediction._replace(
        slots=None if slots is None else slots.detach().float().cpu(),
        masks=None if masks is None else masks.detach().half().cpu(),
    )


def _remove_others(folder: Path, written: set[str]) -> None:
    """Remove files that are numbered like those of this run, or by digits alone."""
    patterns = {re.sub(r"\d+", "#", name) for name in written} | {"#.png", "#.npz"}
    for file in folder.glob("[!.]*"):
        if file.name not in written and re.sub(r"\d+", "#", file.name) in patterns:
            file.unlink()
