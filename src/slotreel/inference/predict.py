"""A video through a model and onto disk: masks, an overlay to look at, slots to work with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from slotreel.colours import overlay
from slotreel.data.image_io import write_labels
from slotreel.data.video_write import VideoWriter
from slotreel.errors import DataError
from slotreel.files import replacing
from slotreel.interfaces import Objective
from slotreel.streaming import evaluating, hard_labels, model_input
from slotreel.types import MaskSource, Prediction, VideoInfo

SLOT_FRAMES = 256  # frames per file of slots


class Written(NamedTuple):
    """What ``predict_video`` left on disk."""

    folder: Path
    num_frames: int


def predict_video(
    objective: Objective,
    frames: Iterator[np.ndarray],
    info: VideoInfo,
    output: Path,
    *,
    image_size: tuple[int, int],
    device: torch.device | str,
    masks: MaskSource = "auto",
    chunk: int = 8,
    fps: float = 25.0,
    alpha: float = 0.55,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Segment a video of any length.

    Writes to ``output/<info.id>``::

        masks/00000.png    indexed PNG in the DAVIS palette, native size: slot + 1
        overlay.mp4        the masks' colours over the frames; appears when the video is done
        slots/000000.npz   every 256 frames, named after their first: frames int64 (n,) and what
                           the model has of slots float32 (n, K, D), masks float16 (n, K, h, w)

    Every file appears under its name only once it is complete; masks and slots that an earlier
    run left there are removed at the end. Memory is constant in the length of the video for
    models that answer frame by frame. Models that must see the whole video first (k-means) hold
    every frame at native size until then.

    Args:
        objective: the model; in evaluation mode meanwhile and restored afterwards.
        frames: uint8 (H, W, 3) one by one, all of one size.
        info: name of the video and, for the progress bar, its length.
        output: where folders of videos go.
        image_size: height and width the model sees, pixels.
        device: where the model is.
        masks: whose masks.
        chunk: frames pushed at once.
        fps: frames per second of the overlay.
        alpha: weight of the colours in the overlay, 0 to 1.
        progress: called with (frames written, ``info.num_frames``).

    Returns:
        The folder and the number of frames in it.

    Raises:
        DataError: if the video has no frame, a frame of another size, other than
            ``info.num_frames`` frames or a name that leads out of ``output``, or the model is an
            oracle.
        RuntimeError: if the model does not predict every frame exactly once, in order.
    """
    if objective.oracle:
        raise DataError(
            f"{type(objective).__name__} copies the truth and a video to predict has none; "
            "choose another, e.g. model=feature_kmeans"
        )
    folder = output / info.id
    if Path(info.id).is_absolute() or ".." in Path(info.id).parts or folder == output:
        raise DataError(f"video name {info.id!r} is no folder name below {output}; rename it")
    waiting: deque[np.ndarray] = deque()
    frames = _checked(frames, info)
    with ExitStack() as stack:
        stack.enter_context(evaluating(objective))
        files: _Files | None = None
        stream = objective.stream(info, masks=masks)
        while pushed := list(islice(frames, chunk)):
            if files is None:  # an empty video leaves nothing behind
                files = stack.enter_context(_Files(folder, fps, alpha))
            waiting.extend(pushed)
            ready = stream.push(model_input(np.stack(pushed), image_size, device))
            files.write(ready, waiting)
            progress(files.done, info.num_frames)
        if files is None:
            raise DataError(
                f"video {info.id!r} has no frames: nothing to segment; check the input path"
            )
        files.write(stream.finish(), waiting)
        progress(files.done, info.num_frames)
        if waiting:
            raise RuntimeError(
                f"{type(objective).__name__} left {len(waiting)} frames of video {info.id!r} "
                f"without a prediction; the first is frame {files.done}"
            )
    return Written(folder, files.done)


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


class _Files:
    """The files of one video while it is being predicted."""

    def __init__(self, folder: Path, fps: float, alpha: float) -> None:
        self.folder, self.alpha, self.done = folder, alpha, 0
        self.slots: list[Prediction] = []
        self.written: set[int] = set()  # first frames of the files of slots
        self.video = VideoWriter(folder / "overlay.mp4", fps)

    def __enter__(self) -> _Files:
        (self.folder / "masks").mkdir(parents=True, exist_ok=True)
        self.video.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._write_slots()
            _remove_others(self.folder / "masks", ".png", range(self.done))
            _remove_others(self.folder / "slots", ".npz", self.written)
        self.video.__exit__(*error)  # type: ignore[arg-type]

    def write(self, predictions: list[Prediction], waiting: deque[np.ndarray]) -> None:
        """Store predictions of the oldest frames that wait, and let go of these frames."""
        for prediction in predictions:
            if prediction.frame != self.done or not waiting:
                raise RuntimeError(
                    f"expected a prediction of frame {self.done}, got one of {prediction.frame}; "
                    "streams predict every pushed frame once, in order"
                )
            frame = waiting.popleft()
            labels = hard_labels(prediction, (frame.shape[0], frame.shape[1]))
            with replacing(self.folder / "masks" / f"{self.done:05d}.png") as temporary:
                write_labels(temporary, labels)
            self.video.write(overlay(frame, labels, self.alpha))
            self.slots.append(_to_cpu(prediction))
            self.done += 1
            if len(self.slots) == SLOT_FRAMES:
                self._write_slots()

    def _write_slots(self) -> None:
        """One file of what the frames since the last one have besides labels."""
        columns: dict[str, Any] = {}
        for name in ("slots", "masks"):
            values = [getattr(prediction, name) for prediction in self.slots]
            if values and all(value is not None for value in values):
                columns[name] = torch.stack(values).numpy()
        if columns:
            first = self.slots[0].frame
            columns["frames"] = np.array([one.frame for one in self.slots], dtype=np.int64)
            with replacing(self.folder / "slots" / f"{first:06d}.npz") as temporary:
                np.savez_compressed(temporary, **columns)
            self.written.add(first)
        self.slots = []


def _to_cpu(prediction: Prediction) -> Prediction:
    """Only what the slot files hold, off the device and no larger than it will be stored."""
    slots, masks = prediction.slots, prediction.masks
    return Prediction(
        prediction.frame,
        slots=None if slots is None else slots.detach().float().cpu(),
        masks=None if masks is None else masks.detach().half().cpu(),
    )


def _remove_others(folder: Path, suffix: str, written: Container[int]) -> None:
    """Remove numbered files that an earlier prediction left and this one did not replace."""
    for file in folder.glob(f"*{suffix}"):
        if file.stem.isdigit() and int(file.stem) not in written:
            file.unlink()
