"""A recurrent memory for each slot."""

from __future__ import annotations

from torch import Tensor

from slotreel.interfaces import Predictor
from slotreel.layers.recurrent import SlotGRU
from slotreel.types import Dims, State


class GRUPredictor(Predictor):
    """One GRU cell per slot reads the corrected slot; its hidden state is the next query.

    Source: none; the recurrent counterpart of ``carry``. Differs: not applicable.

    After the first frame the hidden state starts as the slot itself, so that the first query is a
    gated mean of the slot and the cell's candidate. Slots do not see each other.

    Args:
        dims: slot width.

    Shapes: slots (B, Q, D), state (B, Q, D) -> query (B, Q, D), state (B, Q, D).

    Raises:
        RuntimeError: slots of another width, from PyTorch.
    """

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.cell = SlotGRU(dims.slot, dims.slot)

    def forward(self, slots: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Slots and hidden state -> query, which is also the next hidden state."""
        hidden = self.cell(slots, slots if state is None else state)
        return hidden, hidden
