"""Three stand-ins for methods to come: a two-view loss, a tokenizer, an objective without slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from slotreel.interfaces import Loss, Objective, StepContext, Stream, Tokenizer, TokenizerOutput
from slotreel.noise import Noise
from slotreel.types import (
    Batch,
    Dims,
    HeadSpec,
    LossOutput,
    MaskSource,
    Needs,
    Phase,
    Prediction,
    Progress,
    VideoInfo,
)


class TwoViewLoss(Loss):
    """Slots of two augmentations of a clip should agree after a shared head."""

    def __init__(self, *, dims: Dims, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.head = HeadSpec(dims.slot, 8, 4)

    @property
    def needs(self) -> Needs:
        return Needs(views=2, heads={"view": self.head})

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        a, b = (ctx.heads["view"](out.slots) for out in ctx.student)
        value = (a - b).square().mean()
        return value, {"view_distance": value}


class TeacherLoss(Loss):
    """Slots should stay near those of the EMA teacher."""

    def __init__(self, *, dims: Dims, weight: float = 1.0) -> None:
        super().__init__(weight)

    @property
    def needs(self) -> Needs:
        return Needs(teacher=True)

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        assert ctx.teacher is not None
        assert not ctx.teacher.slots.requires_grad
        return (ctx.student[0].slots - ctx.teacher.slots).square().mean(), {}


class ToyTokenizer(Tokenizer):
    """Assigns each quarter of a frame to the nearest of ``vocab`` colours; frozen after a while."""

    def __init__(self, *, image_size: tuple[int, int], vocab: int, frozen_from: int) -> None:
        super().__init__()
        self.vocab, self.frozen_from = vocab, frozen_from
        self.colours = nn.Parameter(torch.rand(vocab, 3))

    def phases(self) -> list[Phase]:
        return [Phase(self.frozen_from, {"colours": False})]

    def forward(self, video: Tensor, progress: Progress, noise: Noise) -> TokenizerOutput:
        pooled = nn.functional.adaptive_avg_pool2d(video.flatten(0, 1), 2).flatten(2).mT
        jitter = 0.01 * noise.normal("jitter", pooled.shape, pooled)
        distance = torch.cdist(pooled + jitter, self.colours)
        nearest = distance.min(-1)
        return TokenizerOutput(nearest.indices.unflatten(0, video.shape[:2]), nearest.values.mean())


class TokenLoss(Loss):
    """The tokenizer's own loss, and slots that know how often each token occurs."""

    def __init__(self, *, dims: Dims, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.vocab = dims.vocab or 0
        self.head = HeadSpec(dims.slot, 0, self.vocab)

    @property
    def needs(self) -> Needs:
        return Needs(tokenizer=True, heads={"token": self.head})

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        assert ctx.tokens is not None
        counts = nn.functional.one_hot(ctx.tokens.tokens, self.vocab).float().mean(2)
        logits = ctx.heads["token"](ctx.student[0].slots).mean(2)
        value = nn.functional.cross_entropy(logits.flatten(0, 1), counts.flatten(0, 1))
        return value + ctx.tokens.loss, {}


class PixelObjective(Objective):
    """Paints each pixel with one of K colours chosen by a 1x1 convolution: no slots anywhere."""

    def __init__(self, *, num_slots: int, seed: int) -> None:
        super().__init__()
        self.choose = nn.Conv2d(3, num_slots, 1)
        self.paint = nn.Conv2d(num_slots, 3, 1)

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        frames = batch.views[0].flatten(0, 1)
        value = (self.paint(self.choose(frames).softmax(1)) - frames).square().mean()
        return LossOutput(value, {"paint": value}, {"paint": value}, {})

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        return _PixelStream(self)


class _PixelStream(Stream):
    def __init__(self, objective: PixelObjective) -> None:
        self.objective, self.seen = objective, 0

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        masks = self.objective.choose(frames).softmax(1)
        self.seen += len(frames)
        return [Prediction(self.seen - len(frames) + i, masks=m) for i, m in enumerate(masks)]
