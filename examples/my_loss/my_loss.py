"""A loss in twelve lines: slots of one frame should not point the same way."""

from __future__ import annotations

import torch
from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.types import Dims, Needs


class SpreadSlots(Loss):
    """Mean squared cosine between different slots of a frame; 0 when they are orthogonal."""

    def __init__(self, *, dims: Dims, weight: float = 0.1) -> None:
        super().__init__(weight)

    @property
    def needs(self) -> Needs:
        """Nothing but slots."""
        return Needs()

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Slots (B, T, K, D) of the first view -> scalar."""
        unit = torch.nn.functional.normalize(ctx.student[0].slots, dim=-1)
        cosine = unit @ unit.mT  # (B, T, K, K)
        others = ~torch.eye(cosine.shape[-1], dtype=torch.bool, device=cosine.device)
        return cosine[..., others].square().mean(), {}
