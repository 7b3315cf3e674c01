"""Slot health of a model on the first videos of a validation set, for each source of masks.

T frames, K slots, h w grid of the soft masks, C truth classes. The same videos at every evaluation;
draws depend on the seed and the video's id only, so that looking changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.inference.background import BackgroundRule
from slotreel.interfaces import Objective
from slotreel.metrics.functional import contingency, label_count
from slotreel.metrics.health import agreement, defined, mask_health, winners
from slotreel.metrics.health_labelled import labelled_health
from slotreel.metrics.health_slots import slot_health
from slotreel.metrics.health_soft import soft_health
from slotreel.protocols.segment import SegmentedFrame, segment
from slotreel.protocols.windows import plan_windows
from slotreel.streaming import evaluating
from slotreel.training.run import Validation
from slotreel.types import MaskSource

MAX_FRAMES = 24  # of each video: bounds time and memory
MAX_CELLS = 64  # along a side of label maps, which come at the size of the frames


class _Clip(NamedTuple):
    """What a model said about one video."""

    soft: Tensor | None  # (T, K, h, w); None if it says labels
    labels: np.ndarray | None  # uint8 (T, h, w) as it said them; None if it says soft masks
    slots: Tensor | None  # (T, K, D)
    table: np.ndarray | None  # int64 (T', C, slots + 1) of the annotated frames; None without truth
    frames: list[int]  # position of each of these frames


def watch_slots(
    objective: Objective,
    validation: Validation,
    *,
    image_size: tuple[int, int],
    device: torch.device,
    num_videos: int,
) -> dict[str, dict[str, float]]:
    """Health by mask source: ``grouper`` and ``decoder``, or the only one a model has.

    The first frames of the first videos are streamed whole, whatever windows the protocol scores.
    A number that a model cannot have (hard labels are never undecided, trivial rows have no slots)
    is left out.

    Args:
        objective: the model; in evaluation mode meanwhile and restored afterwards.
        validation: what to look at, under its protocol's framing and normalisation.
        image_size: (H, W) the model was trained with.
        device: where the model is.
        num_videos: how many videos; 0 looks at none.

    Returns:
        Numbers by name for each source; nothing where slots play no part: labels spread through
        features, and models that see a truth this set does not have.
    """
    sees_truth = objective.oracle or objective.conditional
    through = validation.protocol.through is not None
    if num_videos < 1 or through or (sees_truth and not validation.labelled):
        return {}
    own = objective.mask_source(validation.protocol.masks)
    two = own in ("grouper", "decoder")
    clips: dict[str, list[_Clip]] = {}
    for source in ("grouper", "decoder") if two else (own,):
        masks: MaskSource = source if source in get_args(MaskSource) else "auto"
        try:
            clips[source] = _watch(objective, validation, masks, image_size, device, num_videos)
        except ConfigError:  # e.g. no decoder; the source that is scored must answer
            if source == own:
                raise
    health = {source: _numbers(objective, seen) for source, seen in clips.items()}
    if len(clips) == 2:
        first, second = ([c.soft for c in seen if c.soft is not None] for seen in clips.values())
        # Two levels of slots (SMTC: the decoder has the semantics) have no slots in common.
        if all(a.shape[1] == b.shape[1] for a, b in zip(first, second, strict=True)):
            for values in health.values():
                values |= defined({"agreement": agreement(first, second)})
    return health


def _watch(
    objective: Objective,
    validation: Validation,
    masks: MaskSource,
    image_size: tuple[int, int],
    device: torch.device,
    num_videos: int,
) -> list[_Clip]:
    """The first videos through the model."""
    source, protocol = validation.source, validation.protocol
    limit = min(MAX_FRAMES, protocol.max_frames or MAX_FRAMES)
    clips = []
    for index in range(min(num_videos, len(source))):
        video = source.info(index)
        numbers = list(range(0, video.num_frames, protocol.frame_stride))[:limit]
        (whole,) = plan_windows(numbers, None, "keep")
        with evaluating(objective), protocol.conditions.imposed(objective):
            frames = segment(
                objective,
                source,
                whole.video(video),
                index,
                numbers,
                masks=masks,
                chunk=protocol.chunk,
                framing=protocol.framing,
                trained_size=image_size,
                device=device,
                background=BackgroundRule("none"),
            )
            clips.append(_clip(list(frames), labelled=validation.labelled))
    return clips


def _clip(frames: Sequence[SegmentedFrame], *, labelled: bool) -> _Clip:
    """Frames of one video stacked, with its pixels counted."""
    said = [frame.prediction for frame in frames]
    soft = [p.masks.float().cpu() for p in said if p.masks is not None]
    labels = [p.labels for p in said if p.labels is not None]
    slots = [p.slots.float().cpu() for p in said if p.slots is not None]
    positions = [i for i, frame in enumerate(frames) if frame.annotated]
    return _Clip(
        torch.stack(soft) if len(soft) == len(said) else None,
        np.stack(labels) if len(labels) == len(said) else None,
        torch.stack(slots) if len(slots) == len(said) else None,
        _count([frames[i] for i in positions]) if labelled and positions else None,
        positions,
    )


def _count(frames: Sequence[SegmentedFrame]) -> np.ndarray | None:
    """Pixels of each truth class in each slot: int64 (T, C, slots + 1)."""
    truth = [frame.truth for frame in frames if frame.truth is not None]
    found = [frame.labels for frame in frames if frame.labels is not None]
    if len(truth) != len(frames) or len(found) != len(frames):
        return None
    one, other = np.stack(truth), np.stack(found)
    return contingency(one, other, max(label_count(one), 1), int(other.max()) + 1)


def _numbers(objective: Objective, clips: Sequence[_Clip]) -> dict[str, float]:
    """All that can be said of the clips of one source."""
    soft = [clip.soft for clip in clips if clip.soft is not None]
    labels = [clip.labels for clip in clips if clip.labels is not None]
    slots = [clip.slots for clip in clips if clip.slots is not None]
    if len(soft) == len(clips):
        num_slots, hard = soft[0].shape[1], [winners(masks) for masks in soft]
    else:
        lowest = min(1, *(int(maps.min()) for maps in labels))  # 0, dropped background, is a slot
        hard = [_thinned(maps) - np.uint8(lowest) for maps in labels]
        known = getattr(objective, "num_slots", 1)  # a trivial row's K, of which it may use fewer
        num_slots = max(known, *(int(maps.max()) + 1 for maps in hard))
    values = {"num_slots": float(num_slots)} | mask_health(hard, num_slots)
    if len(soft) == len(clips):
        values |= soft_health(soft)
    if len(slots) == len(clips):
        values |= slot_health(slots)
    counted = [(clip.table, clip.frames) for clip in clips if clip.table is not None]
    return values | labelled_health([t for t, _ in counted], [f for _, f in counted])


def _thinned(maps: np.ndarray) -> np.ndarray:
    """Every n-th pixel of label maps (T, H, W): about the grid that soft masks have."""
    step = -(-max(maps.shape[1:]) // MAX_CELLS)
    return maps[:, ::step, ::step]
