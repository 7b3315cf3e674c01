"""The slot objective: a model, its losses, and an optional EMA copy."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slotreel.ema import follow, kept_names
from slotreel.errors import ConfigError
from slotreel.interfaces import Loss, Objective, Part, StepContext, Stream, TokenizerOutput
from slotreel.model import SlotVideoModel
from slotreel.noise import Noise
from slotreel.slot_stream import SlotStream
from slotreel.types import (
    Batch,
    DecoderOutput,
    FrameFeatures,
    Gather,
    LossOutput,
    MaskSource,
    ModelOutput,
    Phase,
    Progress,
    VideoInfo,
)


class SlotObjective(Objective):
    """Trains a ``SlotVideoModel`` with a weighted sum of losses and streams it over videos.

    Args:
        model: holds all parameters.
        losses: terms by name.
        gather: brings tensors of all ranks together, for batch-wide terms.
        noise: root of every draw; ranks slice it.
        masks: which masks are scored and drawn; ``auto`` = the decoder's if there is one.
        ema: momentum of an averaged copy of the model, updated after each step; null keeps none.
        ema_keeps: globs of the copy's tensors that stay as they were at the start, e.g.
            ``backbone.*``: then a teacher's features may be targets of a trained backbone.
        evaluate_ema: score and predict with the averaged copy.
    """

    def __init__(
        self,
        model: SlotVideoModel,
        losses: Mapping[str, Loss],
        gather: Gather,
        noise: Noise,
        masks: MaskSource = "auto",
        ema: float | None = None,
        ema_keeps: Sequence[str] = (),
        evaluate_ema: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.losses = dict(losses)
        self.gather, self.noise, self.masks = gather, noise, masks
        self.momentum, self.evaluate_ema = ema, evaluate_ema
        self.views = max((loss.needs.views for loss in losses.values()), default=1)
        self.reads_pixels = (
            any(loss.needs.pixels for loss in losses.values())
            or model.tokenizer is not None
            or model.initializer.reads_hints
        )
        self.ema = None if ema is None else copy.deepcopy(model).requires_grad_(False).eval()
        asked = {"model.evaluate_ema=true": evaluate_ema, "model.ema_keeps": len(ema_keeps) > 0}
        for option in (option for option, on in asked.items() if on and ema is None):
            raise ConfigError(f"{option} needs an EMA copy; type model.ema=0.999")
        self.kept = kept_names(model, ema_keeps)
        if self.ema is None and any(loss.needs.teacher for loss in losses.values()):
            raise ConfigError("a loss needs an EMA teacher; type model.ema=0.996")
        self._source(masks, "model.masks")

    def train(self, mode: bool = True) -> SlotObjective:
        """Switch the student; the EMA copy always stays in eval mode."""
        super().train(mode)
        if self.ema is not None:
            self.ema.eval()
        return self

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Losses of one (micro-)batch."""
        noise = self.noise.child("train", progress.step, 0).piece(progress.micro, progress.micros)
        student = tuple(
            self.model(
                view, batch.hints, noise.child("view", i), batch.features if i == 0 else None
            )
            for i, view in enumerate(batch.views[: self.views])
        )
        ctx = StepContext(
            batch=batch,
            student=student,
            teacher=self._teach(batch, noise),
            decode=_CachedDecode(self.model, student[0].features.grid),
            heads=self.model.heads,
            tokens=self._tokenize(batch, progress, noise),
            progress=progress,
            gather=self.gather,
            teacher_heads=None if self.ema is None else self.ema.heads,
        )
        terms, shares, logs = {}, {}, _predictor_shift(student[0])
        logs |= self.model.grouper.diagnostics(student[0].levels)
        for name, loss in self.losses.items():
            terms[name], more = loss(ctx)
            shares[name] = loss.weight * terms[name]
            logs |= more
        total = torch.stack(list(shares.values())).sum()
        return LossOutput(total, terms, shares, {k: v.detach() for k, v in logs.items()})

    def _teach(self, batch: Batch, noise: Noise) -> ModelOutput | None:
        if not any(loss.needs.teacher for loss in self.losses.values()):
            return None
        assert self.ema is not None
        own = batch.teacher_view is not None
        view = batch.views[0] if batch.teacher_view is None else batch.teacher_view
        features = None if own else batch.features  # of a frozen backbone: the copy has the same
        with torch.no_grad():
            return self.ema(view, batch.hints, noise.child("teacher"), features)

    def _tokenize(self, batch: Batch, progress: Progress, noise: Noise) -> TokenizerOutput | None:
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            return None
        tokens: TokenizerOutput = tokenizer(batch.views[0], progress, noise.child("tokenizer"))
        return tokens

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; draws depend on the seed and the video's id only."""
        model = self._evaluated()
        source = self.mask_source(masks)
        return SlotStream(model, self.noise.child("eval", video.id), source, self._decoded_level())

    def mask_source(self, masks: MaskSource = "auto") -> str:
        """The decoder's masks if it exists, else the grouper's, unless a source is named.

        A grouper's level (``semantic``, ``instance``) is a source too; ConfigError if the model has
        no such masks.
        """
        named = self._source(self.masks if masks == "auto" else masks, "masks")
        if named != "auto":
            return named
        return "grouper" if self.model.decoder is None else "decoder"

    def _source(self, named: MaskSource, key: str) -> MaskSource:
        """The name of a source, refused if the model has no such masks."""
        if named == "decoder" and self.model.decoder is None:
            raise ConfigError(f"{key}=decoder, but no loss needs a decoder; type {key}=grouper")
        if named not in ("auto", "decoder", "grouper", *self.model.grouper.levels):
            raise ConfigError(
                f"{key}={named}: {type(self.model.grouper).__name__} has no such masks; "
                f"type {key}=grouper, or grouper=smtc"
            )
        return named

    def _decoded_level(self) -> str:
        """Which slots the losses decode, so that evaluation decodes the same."""
        levels = [loss.level for loss in self.losses.values() if loss.needs.decode]
        return levels[0] if levels else "auto"

    def features(self, batch: Batch) -> FrameFeatures:
        """Backbone features of the batch's first view, of the copy that is evaluated."""
        return self._evaluated().encode(batch.views[0])

    def _evaluated(self) -> SlotVideoModel:
        """The averaged copy if it is the one to score, else the model."""
        return self.ema if self.evaluate_ema and self.ema is not None else self.model

    def param_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Parameters by part of the model, the EMA copy left out."""
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in self.model.named_parameters():
            groups.setdefault(name.split(".")[0], []).append((f"model.{name}", parameter))
        return groups

    def phases(self) -> list[Phase]:
        """Phases of all parts, with globs relative to the objective."""
        return [
            Phase(step, {f"model.{name}.{glob}": value for glob, value in trainable.items()})
            for name, part in self.model.named_children()
            if isinstance(part, Part)
            for step, trainable in part.phases()
        ]

    def after_step(self, progress: Progress) -> None:
        """Move the EMA copy towards the student."""
        if self.ema is not None and self.momentum is not None:
            follow(self.ema, self.model, self.momentum, self.kept)


class _CachedDecode:
    """Decodes the same slots once, however many losses look at the result."""

    def __init__(self, model: SlotVideoModel, grid: tuple[int, int]) -> None:
        self.model, self.grid = model, grid
        self.done: list[tuple[Tensor, DecoderOutput]] = []

    def __call__(self, slots: Tensor, **options: Any) -> DecoderOutput:
        if options:
            return self.model.decode(slots, self.grid, **options)
        for known, output in self.done:
            if known is slots:
                return output
        self.done.append((slots, self.model.decode(slots, self.grid)))
        return self.done[-1][1]


def _predictor_shift(out: ModelOutput) -> dict[str, Tensor]:
    """How far the next query is from the slots it came from, relative to their norm."""
    if out.query.shape != out.slots.shape or out.slots.shape[1] < 2:
        return {}
    slots, query = out.slots[:, :-1].detach(), out.query[:, 1:].detach()
    return {"predictor_shift": ((query - slots).norm(dim=-1) / slots.norm(dim=-1)).mean()}
