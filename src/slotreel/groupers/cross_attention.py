"""Queries read tokens by cross-attention, without competition."""

from __future__ import annotations

from torch import Tensor, nn

from slotreel.interfaces import Grouper
from slotreel.layers.checks import at_least
from slotreel.layers.gradients import tie_to_slots
from slotreel.layers.mlp import mlp
from slotreel.layers.transformer import Attention, AttentionScale
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, GrouperOutput, Level, State


class CrossAttention(Grouper):
    """A transformer decoder on slots: self-attention, cross-attention, MLP, some layers.

    Source: Carion et al. 2020 (DETR), arXiv:2005.12872, decoder, in the pre-norm form of OSC
    (arXiv:2203.05997). Differs: OSC does not scale self-attention (``self_attention_scale=none``
    does that), uses GELU and adds positions to the tokens, which here the projector does; masks,
    of which DETR has none, are the softmax over slots of the last layer's logits averaged over
    heads.

    Args:
        dims: slot width and number of slots.
        num_layers: rounds of self-attention, cross-attention and MLP.
        num_heads: of both attentions.
        hidden_dim: of the MLP; None takes twice the slot width.
        self_attention_scale: factor on the logits between slots, see ``Attention``.

    Shapes: query (B, K, D), tokens (B, T, N, D) -> slots (B, K, D), masks (B, K, N). In
        ``levels["attention"]``: the last layer's attention averaged over heads, which sums to 1
        over N (not over K), and its logits.

    Raises:
        ConfigError: no layer, heads that do not divide the slot width, an unknown scale.
    """

    def __init__(
        self,
        dims: Dims,
        num_layers: int = 2,
        num_heads: int = 4,
        hidden_dim: int | None = None,
        self_attention_scale: AttentionScale = "standard",
    ) -> None:
        super().__init__()
        at_least("grouper.num_layers", num_layers, 1, 2)
        hidden = 2 * dims.slot if hidden_dim is None else hidden_dim
        at_least("grouper.hidden_dim", hidden, 1, 2 * dims.slot)
        self.num_queries = self.num_slots = dims.num_slots
        self.norm_tokens = nn.LayerNorm(dims.slot)
        self.layers = nn.ModuleList(
            _Layer(dims.slot, num_heads, hidden, self_attention_scale) for _ in range(num_layers)
        )

    def prepare(
        self, tokens: Tensor, features: FrameFeatures, carry: State
    ) -> tuple[list[tuple[Tensor, Tensor]], None]:
        """Keys and values (B, T, heads, N, d) of all frames, for each layer."""
        context = self.norm_tokens(tokens)
        return [layer.cross_attention.memory(context) for layer in self._layers()], None

    def forward(self, query: Tensor, memory: State, *, first: bool, noise: Noise) -> GrouperOutput:
        """Query (B, K, D) and each layer's keys and values of one frame -> slots and masks."""
        slots, logits = query, query
        for layer, (key, value) in zip(self._layers(), memory, strict=True):
            slots, logits = layer(slots, key, value)
        mean = tie_to_slots(logits.mean(dim=1), slots)
        masks = mean.softmax(dim=-2)
        attention = Level(slots, logits.softmax(dim=-1).mean(dim=1), mean)
        return GrouperOutput(slots, masks, {"attention": attention})

    def _layers(self) -> list[_Layer]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


class _Layer(nn.Module):
    def __init__(self, width: int, num_heads: int, hidden: int, scale: AttentionScale) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, num_heads, scale)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, num_heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp((width, hidden, width), zero_bias=False)

    def forward(self, slots: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Slots (B, K, D) -> slots, logits (B, heads, K, N) of the cross-attention."""
        slots = slots + self.self_attention(self.norm_self(slots))
        read, logits = self.cross_attention.attend(self.norm_cross(slots), key, value)
        slots = slots + read
        return slots + self.mlp(self.norm_mlp(slots)), logits
