"""Two-layer projection of each token, as in SlotContrast and VideoSAUR."""

from __future__ import annotations

from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Projector
from slotreel.types import Dims, FrameFeatures


class MLP2(Projector):
    """LayerNorm, Linear, ReLU, Linear on each token.

    Source: Manasyan et al. 2025 (SlotContrast), section 3, output transform of the encoder.
    Differs: no.

    Args:
        dims: feature and slot widths.
        hidden_dim: width between the two Linears; None takes twice the feature width.

    Shapes: tokens (B, T, N, E) -> (B, T, N, D).

    Raises:
        ConfigError: hidden_dim is not positive.
    """

    def __init__(self, dims: Dims, hidden_dim: int | None = None) -> None:
        super().__init__()
        hidden = 2 * dims.feature if hidden_dim is None else hidden_dim
        if hidden < 1:
            raise ConfigError(
                f"expected projector.hidden_dim above 0, got {hidden}; "
                f"type projector.hidden_dim={2 * dims.feature}"
            )
        self.layers = nn.Sequential(
            nn.LayerNorm(dims.feature),
            nn.Linear(dims.feature, hidden),
            nn.ReLU(),
            nn.Linear(hidden, dims.slot),
        )
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, features: FrameFeatures) -> Tensor:
        """Features -> tokens of slot width."""
        return self.layers(features.tokens)
