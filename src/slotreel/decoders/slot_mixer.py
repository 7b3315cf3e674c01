"""Each patch asks which slots matter to it, mixes them, and is predicted once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotreel.interfaces import Decoder
from slotreel.layers.channels import patch_channels, split_channels
from slotreel.layers.checks import at_least, heads_divide, positive
from slotreel.layers.mlp import mlp
from slotreel.layers.position import resize_table
from slotreel.layers.precision import at_least_float32
from slotreel.layers.transformer import AttentionScale, TransformerBlock
from slotreel.types import DecoderOutput, Dims, Target


class SlotMixerDecoder(Decoder):
    """Positions read the slots by cross-attention, weigh them, and an MLP predicts from the mix.

    Per patch: the allocator (transformer blocks with the slots as memory) turns the position into
    a query; its similarity to each slot, softmax over slots, gives the masks; slots averaged with
    these weights, plus the position, go through the renderer (MLP). The renderer runs once per
    patch whatever the number of slots.

    Source: Zadaianchuk et al. 2023 (VideoSAUR), arXiv:2306.04829, after the decoder of Sajjadi et
    al. 2022 (OSRT), arXiv:2206.06922.
    Differs: the allocator's logits are divided by sqrt(d); the published program multiplies
    (``attention_scale="inverse"``). Always with layer norms and the position added to the mix, as
    in every published configuration. Same numbers in less work: the query projection acts on slots
    instead of patches, and the renderer's first layer acts on slots and positions apart.
    ``per="pixel"`` targets are ours: a patch predicts its pixels as channels (colour, row, column).

    Args:
        dims: slot width, patch grid and image size at training.
        targets: what to predict.
        num_blocks: of the allocator; published 2 (MOVi) and 3 (YouTube-VIS).
        num_heads: of the allocator; published 4.
        attention_scale: factor on the allocator's logits, see ``Attention``.
        hidden_dim: width of the renderer's layers; published 1024.
        num_layers: of the renderer, a ReLU after each; published 4 (MOVi) and 3 (YouTube-VIS).
        temperature: divisor of the mask logits; null = sqrt(slot_dim) (published).
        position_std: spread of the position table at the start; null = slot_dim**-0.5 (published).

    Shapes: slots (B, K, D) -> pred {name: (B, h*w, width)}, masks (B, K, h*w), on the grid asked
        for: at others than the training grid positions are resized (bicubic, anti-aliased).
        per_slot {name: (B, K, h*w, width)} is what a slot paints when every patch takes it alone;
        mixing these does not give ``pred``, as the renderer is not linear.

    Raises:
        ConfigError: no block, layer or width, heads that do not divide the slot width, an unknown
            scale, a temperature not above 0, or pixels that do not divide into patches.
    """

    def __init__(
        self,
        dims: Dims,
        targets: Mapping[str, Target],
        num_blocks: int = 2,
        num_heads: int = 4,
        attention_scale: AttentionScale = "standard",
        hidden_dim: int = 1024,
        num_layers: int = 4,
        temperature: float | None = None,
        position_std: float | None = None,
    ) -> None:
        super().__init__()
        at_least("decoder.num_blocks", num_blocks, 1, 2)
        at_least("decoder.hidden_dim", hidden_dim, 1, 1024)
        at_least("decoder.num_layers", num_layers, 1, 4)
        width = dims.slot
        heads_divide("decoder.num_heads", width, num_heads)
        self.temperature = width**0.5 if temperature is None else temperature
        positive("decoder.temperature", self.temperature, round(width**0.5, 2))
        self.trained_at, self.widths = dims.grid, patch_channels("slot_mixer", targets, dims)
        spread = width**-0.5 if position_std is None else position_std
        self.position = nn.Parameter(torch.randn(1, dims.grid[0] * dims.grid[1], width) * spread)
        self.norm_memory = nn.LayerNorm(width)
        self.allocator = nn.ModuleList(
            TransformerBlock(width, num_heads, 4 * width, attention_scale)
            for _ in range(num_blocks)
        )
        self.norm_query, self.norm_key = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(width, width, bias=False)
        self.first = nn.Linear(width, hidden_dim)
        nn.init.zeros_(self.first.bias)
        self.others = mlp([hidden_dim] * num_layers)
        self.output = nn.Linear(hidden_dim, sum(self.widths.values()))
        nn.init.zeros_(self.output.bias)
        for linear in (self.to_query, self.to_key, self.output):
            nn.init.xavier_uniform_(linear.weight)

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
        place = resize_table(self.position, self.trained_at, grid)
        if positions is not None:
            place = place[:, positions]
        shares = self._shares(slots, place)  # (B, N', K)
        by_slot = F.linear(slots, self.first.weight)  # (B, K, hidden)
        by_place = self.first(place)  # (1, N', hidden)
        pred = self._render(torch.baddbmm(by_place, shares.to(by_slot.dtype), by_slot))
        own = self._render(by_slot.unsqueeze(2) + by_place.unsqueeze(1)) if per_slot else None
        return DecoderOutput(pred, shares.transpose(1, 2), grid, own)

    def _shares(self, slots: Tensor, place: Tensor) -> Tensor:
        """How much each place (1, N', D) takes of each slot (B, K, D): (B, N', K), sum 1."""
        x, memory = place, self.norm_memory(slots)
        for block in self.allocator:  # x has batch 1 until the first block has read the slots
            x = block(x, memory)
        key = self.to_key(self.norm_key(slots)) @ self.to_query.weight
        logits = at_least_float32(self.norm_query(x) @ key.transpose(1, 2))
        return (logits / self.temperature).softmax(dim=-1)

    def _render(self, mix: Tensor) -> dict[str, Tensor]:
        """Predictions from the first layer's output, which is overwritten."""
        x = F.relu_(mix)
        if len(self.others):
            x = F.relu_(self.others(x))
        return split_channels(self.output(x), self.widths)
