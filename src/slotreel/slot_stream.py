"""A slot model on its way through one video, frame by frame or in groups of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Stream
from slotreel.model import ScanState, SlotVideoModel
from slotreel.noise import Noise
from slotreel.types import Prediction


class SlotStream(Stream):
    """A slot model on its way through one video (batch of one).

    Args:
        model: in evaluation mode.
        noise: of this video.
        masks: ``decoder``, ``grouper`` or a level of the grouper.
        decoded: level of the slots that the decoder gets.
    """

    def __init__(self, model: SlotVideoModel, noise: Noise, masks: str, decoded: str) -> None:
        self.model, self.noise, self.masks, self.decoded = model, noise, masks, decoded
        self.state: ScanState | None = None
        self.waiting = torch.empty(0)  # frames of a group that is not full

    @torch.no_grad()
    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """Frames (n, 3, H, W) in [0, 1] -> predictions: at once, or of the groups that are full."""
        window = self.model.grouper.window
        if window is None:
            return self._predict(frames, hints or {})
        self.waiting = torch.cat([self.waiting, frames]) if len(self.waiting) else frames
        full = len(self.waiting) // window * window
        groups, self.waiting = self.waiting[:full], self.waiting[full:]
        return [p for group in groups.split(window) for p in self._predict_group(group)]

    @torch.no_grad()
    def finish(self) -> list[Prediction]:
        """Predictions of a last group that is not full."""
        return self._predict_group(self.waiting)

    def _predict_group(self, frames: Tensor) -> list[Prediction]:
        if not len(frames):
            return []
        if self.state is not None:
            self.state = self.state._replace(carry=None)
        return self._predict(frames, {})

    def _predict(self, frames: Tensor, hints: Mapping[str, Any]) -> list[Prediction]:
        start = self.state.frame if self.state else 0
        features = self.model.encode(frames[None])
        out, self.state = self.model.scan(features, hints, self.state, self.noise)
        slots, masks, (h, w) = out.slots, out.masks[0], features.grid
        if self.masks in out.levels:
            level = out.levels[self.masks]
            slots, masks = level.slots, level.masks[0]
        elif self.masks == "decoder":
            slots = out.level(self.decoded)
            decoded = self.model.decode(slots, features.grid)
            if decoded.masks is None:
                raise ConfigError("this decoder has no masks; type masks=grouper")
            masks, (h, w) = decoded.masks, decoded.grid
        masks = masks.reshape(*masks.shape[:2], h, w)  # (n, K, h, w)
        sure = None  # of each mask of the grouper's own slots
        if self.masks != "decoder" and slots.shape == out.slots.shape:
            sure = self.model.grouper.confidence(slots, out.levels)
        scores = [None] * len(frames) if sure is None else list(sure[0])
        return [
            Prediction(start + i, masks=masks[i], slots=slots[0, i], scores=scores[i])
            for i in range(len(frames))
        ]
