"""Each slot predicts each patch by an MLP on slot plus position."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotreel.interfaces import Decoder
from slotreel.layers.channels import patch_channels
from slotreel.layers.checks import at_least
from slotreel.layers.mixing import MixtureReadout
from slotreel.layers.mlp import mlp
from slotreel.layers.position import resize_table
from slotreel.types import DecoderOutput, Dims, Target


class MLPDecoder(Decoder):
    """MLP on slot plus learned position, for each slot and patch; softmax over slots mixes them.

    Source: Seitzer et al. 2023 (DINOSAUR), arXiv:2209.14860, as in SlotContrast.
    Differs: same numbers in less work: the first layer acts on slots and positions apart, and
    slots are mixed before the last layer (see ``MixtureReadout``). ``per="pixel"`` targets are
    ours: a patch predicts its pixels as channels ordered (colour, row, column).

    Args:
        dims: slot width, patch grid and image size at training.
        targets: what to predict.
        hidden_dim: width of the hidden layers; published 1024.
        num_layers: hidden layers; published 3.
        position_std: spread of the position table at the start; null = slot_dim**-0.5 (published).

    Shapes: slots (B, K, D) -> pred {name: (B, h*w, width)}, masks (B, K, h*w), on the grid asked
        for: at others than the training grid positions are resized (bicubic, anti-aliased).

    Raises:
        ConfigError: no hidden layer or width, or pixels that do not divide into patches.
    """

    def __init__(
        self,
        dims: Dims,
        targets: Mapping[str, Target],
        hidden_dim: int = 1024,
        num_layers: int = 3,
        position_std: float | None = None,
    ) -> None:
        super().__init__()
        at_least("decoder.hidden_dim", hidden_dim, 1, 1024)
        at_least("decoder.num_layers", num_layers, 1, 3)
        self.trained_at, self.num_layers = dims.grid, num_layers
        cells = dims.grid[0] * dims.grid[1]
        spread = dims.slot**-0.5 if position_std is None else position_std
        self.position = nn.Parameter(torch.randn(1, cells, dims.slot) * spread)
        self.first = nn.Linear(dims.slot, hidden_dim)
        nn.init.zeros_(self.first.bias)
        self.others = mlp([hidden_dim] * num_layers) if num_layers > 1 else nn.Identity()
        self.readout = MixtureReadout(hidden_dim, patch_channels("mlp", targets, dims))

    def forward(
        self,
        slots: Tensor,
        grid: tuple[int, int],
        *,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        per_slot: bool = False,
    ) -> DecoderOutput:
        """Slots (B, K, D) -> predictions; ``targets`` is for decoders that condition on tokens."""
        table = resize_table(self.position, self.trained_at, grid)
        if positions is not None:
            table = table[:, positions]
        by_slot = F.linear(slots, self.first.weight).unsqueeze(1)  # (B, 1, K, hidden)
        by_place = self.first(table).unsqueeze(2)  # (1, N', 1, hidden)
        x = F.relu_(by_slot + by_place)
        if self.num_layers > 1:
            x = F.relu_(self.others(x))
        pred, masks, own = self.readout.mix(x, per_slot)
        return DecoderOutput(pred, masks, grid, own)
