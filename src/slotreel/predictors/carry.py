"""Slots of a frame start the next one unchanged."""

from __future__ import annotations

from torch import Tensor

from slotreel.interfaces import Predictor
from slotreel.types import Dims, State


class Carry(Predictor):
    """The next query is the corrected slots.

    Source: Kipf et al. 2022 (SAVi), arXiv:2111.12594, with the identity for a predictor.
    Differs: no.

    Args:
        dims: not used beyond the common signature.

    Shapes: slots (B, Q, D) -> query (B, Q, D).

    Raises:
        Nothing.
    """

    def __init__(self, dims: Dims) -> None:
        super().__init__()

    def forward(self, slots: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, None]:
        """Slots -> the same slots."""
        return slots, None
