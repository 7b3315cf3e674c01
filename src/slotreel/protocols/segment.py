"""One video of a source through a model: label maps in order, next to the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from slotreel.errors import DataError
from slotreel.interfaces import Objective, VideoSource
from slotreel.streaming import hard_labels, model_input
from slotreel.types import MaskSource, RawClip, VideoInfo


class LabelledFrame(NamedTuple):
    """One frame after the model."""

    frame: int  # number of the frame in its video
    prediction: np.ndarray  # uint8 (H0, W0), at the size of the truth, else of the frame
    truth: np.ndarray | None  # uint8 (H0, W0)


class _Waiting(NamedTuple):
    """A pushed frame without a prediction yet."""

    frame: int
    truth: np.ndarray | None
    size: tuple[int, int]  # of the label map to make, pixels


def segment(
    objective: Objective,
    source: VideoSource,
    index: int,
    frames: Sequence[int],
    *,
    masks: MaskSource,
    chunk: int,
    image_size: tuple[int, int],
    device: torch.device | str,
) -> Iterator[LabelledFrame]:
    """Label maps of one video as soon as the model has decided them.

    Run it inside ``streaming.evaluating(objective)``. Memory is constant in the number of frames
    for models that answer at once; others hold what they need, and this the truth meanwhile.

    Args:
        objective: the model; sees the truth only if it is an oracle.
        source: videos, with or without masks.
        index: which video.
        frames: numbers of the frames to push, in order.
        masks: whose masks.
        chunk: frames pushed at once.
        image_size: height and width the model sees, pixels.
        device: where the model is.

    Raises:
        DataError: if a frame cannot be read, or an oracle gets no masks.
        RuntimeError: if the model does not predict every frame exactly once.
    """
    video = source.info(index)
    stream = objective.stream(video, masks=masks)
    waiting: dict[int, _Waiting] = {}
    for start in [*range(0, len(frames), chunk), None]:
        if start is None:
            ready = stream.finish()
        else:
            clip = source.read(index, frames[start : start + chunk])
            hints = _oracle_hints(objective, clip, video)
            for i, number in enumerate(clip.frames.tolist()):
                truth = None if clip.labels is None else clip.labels[i]
                height, width = clip.video.shape[1:3] if truth is None else truth.shape
                waiting[start + i] = _Waiting(number, truth, (height, width))
            ready = stream.push(model_input(clip.video, image_size, device), hints)
        for prediction in ready:
            if prediction.frame not in waiting:
                raise RuntimeError(
                    f"{type(objective).__name__} predicted frame {prediction.frame} of video "
                    f"{video.id!r} twice, or before it was pushed"
                )
            frame, truth, size = waiting.pop(prediction.frame)
            yield LabelledFrame(frame, hard_labels(prediction, size), truth)
    if waiting:
        raise RuntimeError(
            f"{type(objective).__name__} left {len(waiting)} of {len(frames)} frames of video "
            f"{video.id!r} without a prediction; the first is frame {min(waiting)}"
        )


def _oracle_hints(
    objective: Objective, clip: RawClip, video: VideoInfo
) -> dict[str, np.ndarray] | None:
    """The truth, for the rows that are allowed to see it."""
    if not objective.oracle:
        return None
    if clip.labels is None:
        raise DataError(
            f"video {video.id!r} has no masks, and {type(objective).__name__} copies them; "
            "choose a set with masks (validate=...)"
        )
    return {"labels": clip.labels}
