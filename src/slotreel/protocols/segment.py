"""One video of a source through a model: label maps in order, next to the truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from slotreel.data.geometry import nearest_resize
from slotreel.errors import DataError
from slotreel.inference.background import BackgroundRule
from slotreel.interfaces import Objective, VideoSource
from slotreel.protocols.framing import Framing
from slotreel.streaming import hard_labels, model_input
from slotreel.types import MaskSource, Prediction, RawClip, VideoInfo


class SegmentedFrame(NamedTuple):
    """One frame after the model, at the size of comparison."""

    frame: int  # number of the frame in its video
    labels: np.ndarray | None  # uint8 (H0, W0), what the model says; None if it says points
    truth: np.ndarray | None  # uint8 (H0, W0)
    annotated: bool
    prediction: Prediction  # as the model gave it
    keypoints: np.ndarray | None  # float64 (J, 2), the true ones


class _Waiting(NamedTuple):
    """A pushed frame without a prediction yet."""

    frame: int
    truth: np.ndarray | None
    annotated: bool
    keypoints: np.ndarray | None
    size: tuple[int, int]  # of the label map to make, pixels


def segment(
    objective: Objective,
    source: VideoSource,
    video: VideoInfo,
    index: int,
    frames: Sequence[int],
    *,
    masks: MaskSource,
    chunk: int,
    framing: Framing,
    trained_size: tuple[int, int],
    device: torch.device | str,
    background: BackgroundRule,
) -> Iterator[SegmentedFrame]:
    """Label maps of one video as soon as the model has decided them.

    Run it inside ``streaming.evaluating(objective)``. Memory is constant in the number of frames
    for models that answer at once; others hold what they need, and this the truth meanwhile.

    Args:
        objective: the model; sees the truth only if it is an oracle, that of frame 0 if it is
            conditional.
        source: videos, with or without masks.
        video: its facts, as the model gets them.
        index: its number in the source.
        frames: numbers of the frames to push, in order.
        masks: whose masks.
        chunk: frames pushed at once.
        framing: how frames are shown and compared.
        trained_size: (H, W) the model was trained with, used where the protocol leaves it open.
        device: where the model is.
        background: which slot is dropped.

    Raises:
        DataError: if a frame cannot be read, or a model that sees the truth gets none.
        RuntimeError: if the model does not predict every frame exactly once.
    """
    stream = objective.stream(video, masks=masks)
    size = framing.image_size or objective.input_size(framing.seen(video.size), trained_size)
    waiting: dict[int, _Waiting] = {}
    dropping = background.stream()
    held: deque[SegmentedFrame] = deque()
    for start in [*range(0, len(frames), chunk), None]:
        ready: Iterable[Prediction]
        if start is None:
            ready = stream.finish()
        else:
            clip = framing.cut(source.read(index, frames[start : start + chunk]))
            hints = _allowed_truth(objective, clip, video, first=start == 0)
            for i in range(len(clip.frames)):
                waiting[start + i] = _wait(clip, i, framing, size)
            pixels = model_input(clip.video, size, device, framing.interpolation, framing.antialias)
            ready = stream.push(pixels, hints)
        for prediction in ready:
            if prediction.frame not in waiting:
                raise RuntimeError(
                    f"{type(objective).__name__} predicted frame {prediction.frame} of video "
                    f"{video.id!r} twice, or before it was pushed"
                )
            asked = waiting.pop(prediction.frame)
            frame = SegmentedFrame(asked.frame, None, *asked[1:3], prediction, asked.keypoints)
            if prediction.points is not None:
                yield frame
                continue
            held.append(frame)
            for labels in dropping.push(hard_labels(prediction, asked.size)):
                yield held.popleft()._replace(labels=labels)
    for labels in dropping.finish():
        yield held.popleft()._replace(labels=labels)
    if waiting:
        raise RuntimeError(
            f"{type(objective).__name__} left {len(waiting)} of {len(frames)} frames of video "
            f"{video.id!r} without a prediction; the first is frame {min(waiting)}"
        )


def _wait(clip: RawClip, i: int, framing: Framing, model: tuple[int, int]) -> _Waiting:
    """Frame ``i`` of a clip, with its truth at the size of comparison."""
    keypoints = clip.hints.get("keypoints")
    truth = None if clip.labels is None else clip.labels[i]
    own = clip.video.shape[1:3] if truth is None else truth.shape
    size = framing.compared_at((own[0], own[1]), model)
    return _Waiting(
        int(clip.frames[i]),
        None if truth is None else nearest_resize(truth, size),
        clip.annotated is None or bool(clip.annotated[i]),
        None if keypoints is None else keypoints[i],
        size,
    )


def _allowed_truth(
    objective: Objective, clip: RawClip, video: VideoInfo, *, first: bool
) -> dict[str, Any] | None:
    """The truth, for models that are allowed to see it: of all frames, or of the first."""
    if not (objective.oracle or (objective.conditional and first)):
        return None
    kind = type(objective).__name__
    if "keypoints" in clip.hints and objective.conditional:
        return {"keypoints": clip.hints["keypoints"][:1]}
    if clip.labels is None:
        raise DataError(
            f"video {video.id!r} has no masks, and {kind} copies them; "
            "choose a set with masks (validate=...)"
        )
    if objective.oracle:
        return {"labels": clip.labels}
    if clip.annotated is not None and not clip.annotated[0]:
        raise DataError(
            f"video {video.id!r}: {kind} starts from the truth of the first frame, which has no "
            f"annotation here; annotate {video.frame_name(int(clip.frames[0]))} or choose a "
            "protocol that is not conditional"
        )
    return {"labels": clip.labels[:1]}
