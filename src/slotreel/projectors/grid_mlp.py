"""Position and MLP on each token, as in SAVi."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError, nearest
from slotreel.interfaces import Projector
from slotreel.layers.init import lecun_normal_
from slotreel.layers.position import coordinate_grid, resize_table
from slotreel.types import Dims, FrameFeatures

Position = Literal["linear", "learned"]


class GridMLP(Projector):
    """Adds each cell's position to its token, then LayerNorm, Linear, ReLU, Linear.

    Source: Kipf et al. 2022 (SAVi), appendix, position embedding of the encoder.
    Differs: the last Linear ends in slot width instead of feature width; ``learned`` and
    ``embed_dim`` are not SAVi's.

    Args:
        dims: feature and slot widths, training grid.
        hidden_dim: width between the two Linears; SAVi 64.
        embed_dim: width of a Linear before everything else, so that LayerNorm cannot hide what all
            channels of a token share (the brightness of a patch of pixels); null has none.
        position: ``linear`` maps (row, column) in [-1, 1] with one Linear; ``learned`` is a table
            at the training grid, resized with anti-aliased bicubic at others.

    Shapes: tokens (B, T, h*w, E) -> (B, T, h*w, D).

    Raises:
        ConfigError: an unknown position, a hidden_dim that is not positive.
    """

    def __init__(
        self,
        dims: Dims,
        hidden_dim: int = 64,
        embed_dim: int | None = None,
        position: Position = "linear",
    ) -> None:
        super().__init__()
        if position not in get_args(Position):
            raise ConfigError(
                f"projector.position={position}: {nearest(str(position), get_args(Position))}"
            )
        if hidden_dim < 1:
            raise ConfigError(
                f"expected projector.hidden_dim above 0, got {hidden_dim}; "
                "type projector.hidden_dim=64"
            )
        self.trained_at = dims.grid
        self.embed = None if embed_dim is None else nn.Linear(dims.feature, embed_dim)
        width = dims.feature if embed_dim is None else embed_dim
        self.position: nn.Linear | None = None
        self.table: nn.Parameter | None = None
        if position == "linear":
            self.position = nn.Linear(2, width)
        else:
            cells = dims.grid[0] * dims.grid[1]
            self.table = nn.Parameter(torch.empty(1, cells, width))
            nn.init.trunc_normal_(self.table, std=0.02)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, dims.slot),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                lecun_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, features: FrameFeatures) -> Tensor:
        """Features -> tokens of slot width."""
        tokens = features.tokens if self.embed is None else self.embed(features.tokens)
        if self.position is not None:
            place = self.position(coordinate_grid(features.grid, like=self.position.weight))
        else:
            assert self.table is not None
            place = resize_table(self.table, self.trained_at, features.grid)
        return self.mlp(tokens + place)
