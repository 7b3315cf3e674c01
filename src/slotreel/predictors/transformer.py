"""The next query from all slots of a frame together."""

from __future__ import annotations

from torch import Tensor, nn

from slotreel.interfaces import Predictor
from slotreel.layers.checks import at_least
from slotreel.layers.transformer import AttentionScale, TransformerBlock
from slotreel.types import Dims, State


class TransformerPredictor(Predictor):
    """Pre-norm transformer encoder on the slots; no memory of earlier frames.

    Source: Manasyan et al. 2025 (SlotContrast). Differs: logits are divided by sqrt(d); the
    published program multiplies (``attention_scale=inverse``).

    Args:
        dims: slot width.
        num_layers: blocks; SlotContrast 1.
        num_heads: of each block; SlotContrast 4.
        hidden_dim: of each block's MLP; None takes four times the slot width.
        attention_scale: factor on the logits, see ``Attention``.

    Shapes: slots (B, Q, D) -> query (B, Q, D).

    Raises:
        ConfigError: no block, heads that do not divide the slot width, an unknown scale.
    """

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 1,
        num_heads: int = 4,
        hidden_dim: int | None = None,
        attention_scale: AttentionScale = "standard",
    ) -> None:
        super().__init__()
        at_least("predictor.num_layers", num_layers, 1, 1)
        hidden = 4 * dims.slot if hidden_dim is None else hidden_dim
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(dims.slot, num_heads, hidden, attention_scale)
                for _ in range(num_layers)
            )
        )

    def forward(self, slots: Tensor, state: State, tokens: Tensor) -> tuple[Tensor, None]:
        """Slots -> query."""
        return self.blocks(slots), None
