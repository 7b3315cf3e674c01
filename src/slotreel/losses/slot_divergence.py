"""Slots of a frame must cover different places."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Loss, StepContext
from slotreel.layers.precision import at_least_float32, full_precision
from slotreel.types import Dims, Needs

EPS = 1e-8  # added to probabilities, published


class SlotDivergenceLoss(Loss):
    """Mean cosine between the masks of different slots of a frame.

    0 if no two slots share a token, 1 if all masks are alike. A mean over clips: two processes with
    equal shares give what one would.

    Source: Qian et al. 2023 (SMTC), arXiv:2308.09951, and its program, where the option is called
    an entropy, which it is not: cosines of the softmax over slots, plus 1e-8, as vectors over
    tokens. Differs: the S (S - 1) products of masks are read off the norm of their sum.

    Args:
        dims: number of slots.
        weight: of the term; published 1.
        level: whose masks, see ``ModelOutput.grouping``.

    Shapes: masks (B, T, K, N) -> scalar.

    Raises:
        ConfigError: a single slot.
    """

    def __init__(self, dims: Dims, weight: float = 1.0, level: str = "auto") -> None:
        super().__init__(weight)
        if (dims.num_slots if level == "slots" else dims.num_queries) < 2:
            raise ConfigError(
                "losses.slot_divergence compares slots, and there is one; type num_slots=2"
            )
        self.level = level

    @property
    def needs(self) -> Needs:
        """Masks of the grouper, which there always are."""
        return Needs(pixels=False)

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Overlap of the masks of views[0]."""
        masks = ctx.student[0].grouping(self.level).masks
        with full_precision(masks):
            return slot_divergence(at_least_float32(masks)), {}


def slot_divergence(masks: Tensor) -> Tensor:
    """Mean cosine of different masks (B, T, K, N) of a frame, a scalar."""
    unit = F.normalize(masks + EPS, dim=-1)
    # sum over s != s' of <u_s, u_s'> = |sum of u_s|^2 - sum of |u_s|^2, token by token
    shared = unit.sum(dim=2).square() - unit.square().sum(dim=2)
    return shared.sum() / (masks.shape[:3].numel() * (masks.shape[2] - 1))
