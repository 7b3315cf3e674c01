"""Slots of single frames made into tracks: the same index is the same thing over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Objective, Stream
from slotreel.types import (
    Batch,
    FrameFeatures,
    LossOutput,
    MaskSource,
    Prediction,
    Progress,
    VideoInfo,
)


class Tracks(Objective):
    """A model whose slots are linked from frame to frame, and of whose tracks the largest stay.

    Linking is for models that start from new slots in every frame, where index k means nothing over
    time. Every frame's slots are matched one to one with those of the frame before (Hungarian, the
    largest sum of ``slot_weight`` times cosine of slots plus ``mask_weight`` times overlap of soft
    masks A.B / (A.A + B.B - A.B), which is the IoU where they are hard) and take their index.

    Source: none; both cues are common in tracking by detection.

    Args:
        objective: the model. Label maps, points and masks that come with a background (propagated
            labels) pass unchanged; without slots only masks count.
        slot_weight: of the cosine; with both weights 0 slots keep the index they have.
        mask_weight: of the overlap.
        max_tracks: so many tracks with most cells of the grid over the whole video stay, in their
            order; the others become background. Predictions then wait for the end of the video,
            their soft masks in memory. null, or enough for all slots, keeps every track.

    Raises:
        ConfigError: a negative weight, or ``max_tracks`` below 1.
    """

    trainable = False

    def __init__(
        self,
        objective: Objective,
        *,
        slot_weight: float = 0.1,
        mask_weight: float = 1.0,
        max_tracks: int | None = None,
    ) -> None:
        super().__init__()
        for name, weight in (("slot_weight", slot_weight), ("mask_weight", mask_weight)):
            if weight < 0:
                raise ConfigError(f"expected {name} of 0 or more, got {weight}; type {name}=1")
        if max_tracks is not None and max_tracks < 1:
            raise ConfigError(f"expected max_tracks of at least 1, got {max_tracks}; type 20")
        self.objective = objective
        self.oracle, self.conditional = objective.oracle, objective.conditional
        self.slot_weight, self.mask_weight = slot_weight, mask_weight
        self.max_tracks = max_tracks

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Refused: there is nothing to train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("tracks have nothing to train; train the model that makes the slots")

    def input_size(self, frame: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
        """As the model wants it."""
        return self.objective.input_size(frame, trained)

    def mask_source(self, masks: MaskSource = "auto") -> str:
        """The model's."""
        return self.objective.mask_source(masks)

    def has_features(self) -> bool:
        """Whether the model has."""
        return self.objective.has_features()

    def features(self, batch: Batch) -> FrameFeatures:
        """The model's."""
        return self.objective.features(batch)

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video."""
        return TrackStream(self, self.objective.stream(video, masks=masks))

    def order(self, now: Prediction, before: Prediction) -> Tensor:
        """Which slot (K,) of a frame continues each of the tracks (K) of the frame before."""
        masks = _of(now)
        likeness = self.mask_weight * overlap(masks, _of(before))
        if now.slots is not None and before.slots is not None:
            likeness = likeness + self.slot_weight * cosine(now.slots, before.slots)
        slots = linear_sum_assignment(likeness.T.cpu().numpy(), maximize=True)[1]
        return torch.as_tensor(slots, device=masks.device)


class TrackStream(Stream):
    """One video: what the last frame looked like, and what waits for the end.

    Args:
        owner: settings.
        stream: the model's.
    """

    def __init__(self, owner: Tracks, stream: Stream) -> None:
        self.owner, self.inner = owner, stream
        self.before: Prediction | None = None
        self.held: list[Prediction] = []

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """The next frames (n, 3, H, W) in [0, 1] -> predictions that need not wait."""
        return [p for said in self.inner.push(frames, hints) for p in self._take(said)]

    def finish(self) -> Iterator[Prediction]:
        """What waited, one by one."""
        for said in self.inner.finish():
            yield from self._take(said)
        kept = self._largest()
        while self.held:
            yield _only(self.held.pop(0), kept)

    def _take(self, said: Prediction) -> list[Prediction]:
        """A prediction in the order of the tracks, or none if it has to wait."""
        if said.masks is None or said.first_label == 0:
            return [said]
        if self.before is not None and self.owner.slot_weight + self.owner.mask_weight > 0:
            said = _ordered(said, self.owner.order(said, self.before))
        self.before = said
        limit = self.owner.max_tracks
        if limit is None or len(_of(said)) <= limit:
            return [said]
        self.held.append(said)
        return []

    def _largest(self) -> Tensor:
        """Indices, ascending, of the tracks that win most cells; among equals the first."""
        counts = torch.zeros(0, dtype=torch.int64)
        for said in self.held:
            masks = _of(said)
            won = masks.argmax(0).flatten().cpu().bincount(minlength=len(masks))
            counts = won if not len(counts) else counts + won
        return counts.argsort(descending=True, stable=True)[: self.owner.max_tracks].sort()[0]


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Overlap of soft masks (K, h, w) and (L, h, w) -> (K, L) in [0, 1]; 0 where both are empty."""
    a, b = a.flatten(1).float(), b.flatten(1).float()
    both = a @ b.T
    either = a.square().sum(1)[:, None] + b.square().sum(1) - both
    return both / either.clamp(min=1e-12)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of slots (K, D) and (L, D) -> (K, L)."""
    return F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T


def _of(said: Prediction) -> Tensor:
    assert said.masks is not None, "only predictions with masks are linked"
    return said.masks


def _ordered(said: Prediction, order: Tensor) -> Prediction:
    """Slots, masks and scores of a frame in another order."""
    return said._replace(
        masks=_of(said)[order],
        slots=None if said.slots is None else said.slots[order],
        scores=None if said.scores is None else said.scores[order],
    )


def _only(said: Prediction, kept: Tensor) -> Prediction:
    """A frame with the tracks that stay, the strongest of the others as its background, mask 0."""
    masks = _of(said)
    kept = kept.to(masks.device)
    gone = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
    gone[kept] = False
    stay = _ordered(said, kept)
    scores = stay.scores
    return stay._replace(
        masks=torch.cat([masks[gone].amax(0, keepdim=True), masks[kept]]),
        scores=None if scores is None else torch.cat([scores.new_zeros(1), scores]),
        first_label=0,
    )
