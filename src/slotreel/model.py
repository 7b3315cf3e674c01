"""The slot model over time: backbone -> projector -> (initializer | predictor) -> grouper."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from slotreel.interfaces import (
    Backbone,
    Decoder,
    Grouper,
    Initializer,
    Predictor,
    Projector,
    Tokenizer,
)
from slotreel.noise import Noise
from slotreel.types import (
    DecoderOutput,
    FrameFeatures,
    FrameOutput,
    Hints,
    Level,
    ModelOutput,
    State,
)


class ScanState(NamedTuple):
    """What one frame hands to the next."""

    frame: int  # number of frames seen
    slots: Tensor  # (B, Q, D) of the last frame: what the predictor acts on
    tokens: Tensor  # (B, N, D) of the last frame
    carry: State  # of Grouper.prepare
    predictor: State


class SlotVideoModel(nn.Module):
    """Holds every parameter of a slot method and runs it over the frames of a clip.

    At frame 0 the query comes from the initializer, later from the predictor acting on the slots
    of the frame before (from the initializer again if ``predictor.reinit``).

    Args:
        backbone: frames to tokens.
        projector: tokens to slot width.
        initializer: first query.
        grouper: query and tokens to slots.
        predictor: slots to the next query.
        decoder: slots to what the losses compare; None if no loss asked for anything.
        heads: trainable heads the losses asked for, by name.
        tokenizer: frames to discrete tokens, if a loss asked for them.
        want: optional fields of FrameFeatures that some part uses.
    """

    decoder: Decoder | None
    tokenizer: Tokenizer | None

    def __init__(
        self,
        *,
        backbone: Backbone,
        projector: Projector,
        initializer: Initializer,
        grouper: Grouper,
        predictor: Predictor,
        decoder: Decoder | None = None,
        heads: dict[str, nn.Module] | None = None,
        tokenizer: Tokenizer | None = None,
        want: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.backbone, self.projector = backbone, projector
        self.initializer, self.grouper, self.predictor = initializer, grouper, predictor
        self.decoder, self.tokenizer = decoder, tokenizer
        self.heads = nn.ModuleDict(heads or {})
        self.want = want

    def encode(self, video: Tensor) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> features."""
        return self.backbone(video, self.want)

    def forward(
        self, video: Tensor, hints: Hints, noise: Noise, features: FrameFeatures | None = None
    ) -> ModelOutput:
        """A clip (B, T, 3, H, W) from its first frame on; ``features`` spares the backbone."""
        features = self.encode(video) if features is None else features
        return self.scan(features, hints, None, noise)[0]

    def step(
        self, features: FrameFeatures, hints: Hints, state: ScanState | None, noise: Noise
    ) -> tuple[FrameOutput, ScanState]:
        """One frame (T = 1): the same arithmetic as ``forward``, one frame at a time."""
        output, state = self.scan(features, hints, state, noise)
        levels = {
            name: Level(
                level.slots[:, 0],
                level.masks[:, 0],
                None if level.logits is None else level.logits[:, 0],
            )
            for name, level in output.levels.items()
        }
        frame = FrameOutput(output.query[:, 0], output.slots[:, 0], output.masks[:, 0], levels)
        return frame, state

    def scan(
        self, features: FrameFeatures, hints: Hints, state: ScanState | None, noise: Noise
    ) -> tuple[ModelOutput, ScanState]:
        """Any number of frames, continuing from ``state`` (None: a clip begins)."""
        tokens = self.projector(features)  # (B, T, N, D)
        memory, carry = self.grouper.prepare(tokens, features, state.carry if state else None)
        frames: list[FrameOutput] = []
        for t in range(tokens.shape[1]):
            seen = state.frame if state else 0
            source = noise.frame(seen)
            query, predictor_state = self._query(t, tokens, features, hints, state, source)
            out = self.grouper(
                query, tree_map(lambda x, t=t: x[:, t], memory), first=seen == 0, noise=source
            )
            frames.append(FrameOutput(query, out.slots, out.masks, out.levels))
            recurrent = out.levels["semantic"].slots if "semantic" in out.levels else out.slots
            state = ScanState(seen + 1, recurrent, tokens[:, t], carry, predictor_state)
        assert state is not None, "a clip has at least one frame"
        stacked = FrameOutput(*tree_map(_stack, *map(tuple, frames)))
        return ModelOutput(features, tokens, *stacked), state

    def _query(
        self,
        t: int,
        tokens: Tensor,
        features: FrameFeatures,
        hints: Hints,
        state: ScanState | None,
        noise: Noise,
    ) -> tuple[Tensor, State]:
        """Query (B, Q, D) of frame ``t`` of these tokens, and the predictor's state."""
        if state is None or self.predictor.reinit:
            now = {name: hint[:, t] for name, hint in hints.items()}
            frame = features.frame(t)
            query = self.initializer(tokens[:, t], frame, now, tokens.shape[0], noise)
            return query, None
        return self.predictor(state.slots, state.predictor, state.tokens)

    def decode(self, slots: Tensor, grid: tuple[int, int], **options: Tensor) -> DecoderOutput:
        """Slots (B, T, K, D) -> predictions with B and T folded into the first axis."""
        assert self.decoder is not None, "build makes a decoder for every loss that needs one"
        return self.decoder(slots.flatten(0, 1), grid, **options)


def _stack(*frames: Tensor | None) -> Tensor | None:
    """(B, ...) of each frame -> (B, T, ...); what a part leaves out stays out."""
    present = [frame for frame in frames if frame is not None]
    return torch.stack(present, dim=1) if present else None
