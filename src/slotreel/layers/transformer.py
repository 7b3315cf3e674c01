"""Multi-head attention and pre-norm blocks on sets of slots."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from slotreel.layers.checks import at_least, heads_divide, one_of
from slotreel.layers.mlp import mlp
from slotreel.layers.precision import at_least_float32

AttentionScale = Literal["standard", "none", "inverse"]


class Attention(nn.Module):
    """Multi-head attention with a choice of the factor on its logits.

    Source: Vaswani et al. 2017, equation 1. Differs: the factor may also be the one of the
    SlotContrast and VideoSAUR programs (``inverse``) or of OSC's self-attention (``none``).

    Args:
        width: of queries, keys, values and output together over the heads.
        num_heads: equal shares of the width.
        scale: factor on the logits for heads of width d: ``standard`` 1 / sqrt(d), ``none`` 1,
            ``inverse`` sqrt(d).

    Shapes: query (B, Q, width), keys and values (B, heads, N, d) -> (B, Q, width).

    Raises:
        ConfigError: heads that do not divide the width, an unknown scale.
    """

    def __init__(self, width: int, num_heads: int, scale: AttentionScale = "standard") -> None:
        super().__init__()
        heads_divide("num_heads", width, num_heads)
        one_of("attention_scale", scale, get_args(AttentionScale))
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** {"standard": -0.5, "none": 0.0, "inverse": 0.5}[scale]
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        for part in (*self.qkv.weight.chunk(3), self.out.weight):
            nn.init.xavier_uniform_(part)
        for bias in (self.qkv.bias, self.out.bias):
            nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Self-attention of a set (B, K, width)."""
        query, key, value = rearrange(
            self.qkv(x), "b k (three h d) -> three b h k d", three=3, h=self.num_heads
        )
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.out(rearrange(mixed, "b h k d -> b k (h d)"))

    def memory(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., heads, N, d) of tokens (..., N, width)."""
        weight, bias = self.qkv.weight, self.qkv.bias
        width = weight.shape[1]
        both = F.linear(tokens, weight[width:], bias[width:])
        key, value = rearrange(
            both, "... n (two h d) -> two ... h n d", two=2, h=self.num_heads
        ).unbind(0)
        return key, value

    def read(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``attend`` without its logits; x of batch 1 is shared by the clips of the keys."""
        query = self._query(x).expand(key.shape[0], -1, -1, -1)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.out(rearrange(mixed, "b h k d -> b k (h d)"))

    def attend(self, x: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-attention of a set (B, K, width): output (B, K, width), logits (B, heads, K, N)."""
        logits = at_least_float32(self._query(x) @ key.transpose(-1, -2)) * self.scale
        mixed = logits.softmax(dim=-1).to(value.dtype) @ value
        return self.out(rearrange(mixed, "b h k d -> b k (h d)")), logits

    def _query(self, x: Tensor) -> Tensor:
        weight, bias = self.qkv.weight, self.qkv.bias
        width = weight.shape[1]
        query = F.linear(x, weight[:width], bias[:width])
        return rearrange(query, "b k (h d) -> b h k d", h=self.num_heads)


class TransformerBlock(nn.Module):
    """Pre-norm attention and two-layer MLP with ReLU, both residual.

    Without memory the set attends to itself; with memory it reads the memory, which is taken as it
    comes, not normalised, and its own elements do not see each other.

    Source: Manasyan et al. 2025 (SlotContrast), predictor; with memory Zadaianchuk et al. 2023
    (VideoSAUR), arXiv:2306.04829, allocator of the decoder. Differs: logits are
    divided by sqrt(d); the published programs multiply (``attention_scale="inverse"``).

    Args:
        width: of the slots.
        num_heads: of the attention.
        hidden_dim: of the MLP.
        attention_scale: see ``Attention``.

    Shapes: x (B, K, width) -> (B, K, width); memory (B, N, width), then x may have batch 1.

    Raises:
        ConfigError: heads that do not divide the width, an unknown scale.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        hidden_dim: int,
        attention_scale: AttentionScale = "standard",
    ) -> None:
        super().__init__()
        at_least("hidden_dim", hidden_dim, 1, 4 * width)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, attention_scale)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp((width, hidden_dim, width), zero_bias=False)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """One round of exchange within the set, or of reading from memory."""
        normed = self.norm_attention(x)
        if memory is None:
            x = x + self.attention(normed)
        else:
            x = x + self.attention.read(normed, *self.attention.memory(memory))
        return x + self.mlp(self.norm_mlp(x))
