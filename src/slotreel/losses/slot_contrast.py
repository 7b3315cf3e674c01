"""A slot must find itself in the next frame among all other slots."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.layers.checks import one_of, positive
from slotreel.layers.precision import at_least_float32, full_precision
from slotreel.types import Dims, Needs

SoftmaxOver = Literal["earlier", "later", "both"]


class SlotContrastLoss(Loss):
    """Cross-entropy of matching each slot with the same slot of the neighbouring frame.

    Source: Manasyan et al. 2025 (SlotContrast), slot-slot contrastive loss.
    Differs: ``softmax_over=earlier`` is the published program; the paper's formula is ``later``;
    ``both`` (their mean) and ``gather`` are ours.

    Logs ``contrast_top1``, how often a later slot is most similar to its own earlier one, and
    ``contrast_chance``, the same for guessing.

    Args:
        dims: not used beyond the common signature.
        weight: of the term; published 0.5.
        tau: temperature of the cosine similarities; published 0.1.
        batch: slots of other clips are negatives too; otherwise only those of the same clip.
        gather: ``batch`` means the clips of all processes, not of this one; published false, on
            one GPU, where there is no difference.
        softmax_over: slots of which frame compete: ``earlier``, ``later``, or ``both`` averaged.
        level: which slots to compare, see ``ModelOutput.level``.

    Shapes: slots (B, T, K, D) -> scalar.

    Raises:
        ConfigError: a temperature that is not positive, an unknown softmax_over.
        ValueError: a single frame.
    """

    def __init__(
        self,
        dims: Dims,
        weight: float = 0.5,
        tau: float = 0.1,
        batch: bool = True,
        gather: bool = True,
        softmax_over: SoftmaxOver = "earlier",
        level: str = "auto",
    ) -> None:
        super().__init__(weight)
        positive("losses.slot_contrast.tau", tau, 0.1)
        one_of("losses.slot_contrast.softmax_over", softmax_over, get_args(SoftmaxOver))
        self.tau, self.batch, self.gather = tau, batch, gather
        self.softmax_over, self.level = softmax_over, level

    @property
    def needs(self) -> Needs:
        """Two frames; with ``batch`` also all clips at once."""
        return Needs(min_frames=2, batch_wide=self.batch, pixels=False)

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast of the slots of views[0]."""
        slots = ctx.student[0].level(self.level)
        if slots.shape[1] < 2:
            raise ValueError("slot_contrast compares frames: expected T >= 2, got T = 1")
        if self.batch and self.gather:
            slots = ctx.gather(slots)
        with full_precision(slots):
            return self._contrast(at_least_float32(slots))

    def _contrast(self, slots: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        unit = F.normalize(slots, dim=-1)
        if self.batch:
            unit = rearrange(unit, "b t k d -> 1 t (b k) d")
        logits = unit[:, :-1] @ unit[:, 1:].transpose(-1, -2) / self.tau  # earlier x later
        same = torch.arange(logits.shape[-1], device=logits.device)
        own = logits.diagonal(dim1=-2, dim2=-1)
        losses = {
            "earlier": lambda: (logits.logsumexp(dim=-2) - own).mean(),
            "later": lambda: (logits.logsumexp(dim=-1) - own).mean(),
        }
        chosen = losses if self.softmax_over == "both" else [self.softmax_over]
        loss = torch.stack([losses[name]() for name in chosen]).mean()
        found = (logits.detach().argmax(dim=-2) == same).to(logits.dtype).mean()
        chance = torch.full_like(found, 1.0 / len(same))
        return loss, {"contrast_top1": found, "contrast_chance": chance}
