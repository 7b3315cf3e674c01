"""A recurrent cell on sets of slots."""

from __future__ import annotations

from torch import Tensor, nn

from slotreel.layers.precision import at_least_float32, full_precision


class SlotGRU(nn.GRUCell):
    """One GRU step for each slot, with shared weights, in single precision under autocast.

    Source: Cho et al. 2014, arXiv:1406.1078, in PyTorch's form (gates reset, update, candidate).
    Differs: acts on sets (B, K, ...).

    Args:
        input_size: width of the update.
        hidden_size: width of the state.

    Shapes: update (B, K, input_size), state (B, K, hidden_size) -> (B, K, hidden_size).

    Raises:
        RuntimeError: widths that do not fit, from PyTorch.
    """

    def forward(self, update: Tensor, state: Tensor | None = None) -> Tensor:
        """The next state; a missing state counts as zeros."""
        with full_precision(update):
            hidden = None if state is None else at_least_float32(state).flatten(0, 1)
            new = super().forward(at_least_float32(update).flatten(0, 1), hidden)
        return new.unflatten(0, update.shape[:2])
