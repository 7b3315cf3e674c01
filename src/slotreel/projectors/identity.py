"""No projection: slots as wide as the backbone's features."""

from __future__ import annotations

from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Projector
from slotreel.types import Dims, FrameFeatures


class Identity(Projector):
    """Tokens as the backbone gives them.

    Source: none. Differs: from nothing.

    Args:
        dims: must have slot = feature.

    Shapes: tokens (B, T, N, E) -> the same.

    Raises:
        ConfigError: slots are not as wide as features.
    """

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        if dims.feature != dims.slot:
            raise ConfigError(
                f"projector=identity expects slot_dim to be the feature width {dims.feature}, got "
                f"{dims.slot}; type slot_dim={dims.feature}, or projector=mlp2"
            )

    def forward(self, features: FrameFeatures) -> Tensor:
        """Features -> their tokens."""
        return features.tokens
