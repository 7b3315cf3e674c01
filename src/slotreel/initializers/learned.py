"""One learned query for each slot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slotreel.interfaces import Initializer
from slotreel.layers.checks import positive
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, Hints


class FixedLearnedInit(Initializer):
    """The same learned vectors for every clip.

    Source: Manasyan et al. 2025 (SlotContrast). Differs: no.

    Args:
        dims: slot width D and number of queries Q.
        initial_std: of the normal values at the start of training; None takes D ** -0.5.

    Shapes: -> query (B, Q, D).

    Raises:
        ConfigError: initial_std is not positive.
    """

    reads_hints = False

    def __init__(self, dims: Dims, initial_std: float | None = None) -> None:
        super().__init__()
        std = dims.slot**-0.5 if initial_std is None else initial_std
        positive("initializer.initial_std", std, dims.slot**-0.5)
        self.slots = nn.Parameter(torch.randn(1, dims.num_queries, dims.slot) * std)

    def forward(
        self, tokens: Tensor, features: FrameFeatures, hints: Hints, batch_size: int, noise: Noise
    ) -> Tensor:
        """The learned vectors, once per clip."""
        return self.slots.expand(batch_size, -1, -1)
