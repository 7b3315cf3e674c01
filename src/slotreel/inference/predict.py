"""A video of any length through a model and onto disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from slotreel.errors import DataError
from slotreel.inference.background import BackgroundRule
from slotreel.inference.writer import Drawing, VideoFiles, writing
from slotreel.interfaces import Objective
from slotreel.streaming import evaluating, model_input
from slotreel.types import MaskSource, Prediction, VideoInfo

HELD_CHUNKS = 4  # chunks of frames kept for a model that answers late


class Written(NamedTuple):
    """What ``predict_video`` left on disk."""

    folder: Path
    num_frames: int


def predict_video(
    objective: Objective,
    open_frames: Callable[[], Iterator[np.ndarray]],
    info: VideoInfo,
    output: Path,
    *,
    image_size: tuple[int, int],
    device: torch.device | str,
    masks: MaskSource = "auto",
    chunk: int = 8,
    first_labels: np.ndarray | None = None,
    background: BackgroundRule | None = None,
    drawing: Drawing | None = None,
    progress: Callable[[int, int], None] = lambda read, written: None,
) -> Written:
    """Segment a video of any length.

    Writes to ``output/<info.id>``::

        masks/00000.png    indexed PNG in the DAVIS palette, native size: slot + 1, 0 = background;
                           named after the frame where frames are files
        overlay.mp4        one video per view, its name the view's; appears when it is complete
        slots/000000.npz   every 256 frames, named after their first: frames int64 (n,) and what
                           the model has of slots float32 (n, K, D), masks float16 (n, K, h, w)

    Memory is constant in the length of the video for models that answer frame by frame. Models that
    must see the whole video first (k-means) keep their own points until then; the frames are read a
    second time instead of being kept.

    Args:
        objective: the model; in evaluation mode meanwhile and restored afterwards.
        open_frames: starts reading the video: uint8 (H, W, 3) one by one, all of one size. Called
            once more if the model answers late.
        info: name and length of the video, names of its frames.
        output: where folders of videos go.
        image_size: height and width the model sees, pixels.
        device: where the model is.
        masks: whose masks.
        chunk: frames pushed at once.
        first_labels: uint8 (H, W), the truth of the first frame, for conditional models.
        background: which slot becomes label 0; default none.
        drawing: which videos; default an overlay.
        progress: called with (frames read, frames written).

    Returns:
        The folder and the number of frames in it.

    Raises:
        DataError: if the video has no frame, a frame of another size, other than
            ``info.num_frames`` frames or a name that leads out of ``output``, if the model is an
            oracle, or conditional and there is no truth of the first frame.
        RuntimeError: if the model does not predict every frame exactly once, in order.
    """
    _check_model(objective, first_labels)
    folder = output / info.id
    if Path(info.id).is_absolute() or ".." in Path(info.id).parts or folder == output:
        raise DataError(f"video name {info.id!r} is no folder name below {output}; rename it")
    hints = None if first_labels is None else {"labels": first_labels[None]}
    frames = _checked(open_frames(), info)
    waiting = _Waiting(open_frames, HELD_CHUNKS * chunk, info)
    with ExitStack() as stack:
        stack.enter_context(evaluating(objective))
        files: VideoFiles | None = None
        stream = objective.stream(info, masks=masks)

        def write(files: VideoFiles, predictions: Iterable[Prediction]) -> None:
            for prediction in predictions:
                if prediction.frame != files.done or not waiting.count:
                    raise RuntimeError(
                        f"expected a prediction of frame {files.done}, got one of "
                        f"{prediction.frame}; streams predict every pushed frame once, in order"
                    )
                files.write(waiting.pop(), prediction)
                progress(waiting.read, files.done)

        while pushed := list(islice(frames, chunk)):
            if files is None:  # an empty video leaves nothing behind
                files = stack.enter_context(
                    writing(folder, info, background or BackgroundRule(), drawing or Drawing())
                )
            waiting.add(pushed)
            progress(waiting.read, files.done)
            write(files, stream.push(model_input(np.stack(pushed), image_size, device), hints))
            hints = None
        if files is None:
            raise DataError(
                f"video {info.id!r} has no frames: nothing to segment; check the input path"
            )
        write(files, stream.finish())
        if waiting.count:
            raise RuntimeError(
                f"{type(objective).__name__} left {waiting.count} frames of video {info.id!r} "
                f"without a prediction; the first is frame {files.done}"
            )
    return Written(folder, files.done)


def _check_model(objective: Objective, first_labels: np.ndarray | None) -> None:
    kind = type(objective).__name__
    if objective.oracle:
        raise DataError(
            f"{kind} copies the truth and a video to predict has none; choose another, e.g. "
            "model=feature_kmeans"
        )
    if objective.conditional and first_labels is None:
        raise DataError(
            f"{kind} starts from the masks of the first frame and got none; type first_mask=PNG"
        )


def _checked(frames: Iterable[np.ndarray], info: VideoInfo) -> Iterator[np.ndarray]:
    """The frames, refusing another size and a length that is not the announced one."""
    first: np.ndarray | None = None
    count = 0
    for frame in frames:
        first = frame if first is None else first
        if frame.dtype != np.uint8 or frame.shape != first.shape or frame.shape[2:] != (3,):
            raise DataError(
                f"video {info.id!r}, frame {count}: expected uint8 {first.shape[:2]} x 3 like the "
                f"first frame, got {frame.dtype} {frame.shape}; put other sizes in their own folder"
            )
        yield frame
        count += 1
    if count and count != info.num_frames:
        raise DataError(
            f"video {info.id!r}: expected {info.num_frames} frames, could read {count}; the file "
            "may be cut off, copy it again"
        )


class _Waiting:
    """Pushed frames without a prediction: kept while few, else read again when their turn comes.

    Args:
        open_frames: starts reading the video.
        limit: most frames to keep.
        info: the video, for messages.

    Attributes:
        read: frames pushed so far.
        count: how many of them wait.
    """

    def __init__(
        self, open_frames: Callable[[], Iterator[np.ndarray]], limit: int, info: VideoInfo
    ) -> None:
        self.read = self.count = 0
        self._open, self._limit, self._info = open_frames, limit, info
        self._kept: deque[np.ndarray] = deque()
        self._again: Iterator[np.ndarray] | None = None

    def add(self, frames: list[np.ndarray]) -> None:
        """Frames were pushed."""
        self.read += len(frames)
        self.count += len(frames)
        if self._again is None:
            self._kept.extend(frames)
            if len(self._kept) > self._limit:
                self._again = islice(self._open(), self.read - self.count, None)
                self._kept.clear()

    def pop(self) -> np.ndarray:
        """The oldest frame that waits."""
        frame: Any = self._kept.popleft() if self._again is None else next(self._again, None)
        if frame is None:
            raise DataError(
                f"video {self._info.id!r} had frame {self.read - self.count} when it was read "
                "first, and not any more; leave input files alone while predict runs"
            )
        self.count -= 1
        return frame
