"""SMTC: slots in two levels, semantics over the frame, then instances inside each semantic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from slotreel.interfaces import Grouper
from slotreel.layers.checks import at_least, one_of, positive
from slotreel.layers.gradients import tie_to_slots
from slotreel.layers.mlp import mlp
from slotreel.layers.precision import at_least_float32
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, GrouperOutput, Level, State

Gate = Literal["hard_logit", "hard_probability", "soft"]
Instances = Literal["detached", "reparameterised"]
Draw = Literal["per_frame", "per_clip"]
FirstReference = Literal["wrap", "self"]
Gradient = Literal["full", "last"]


ALIVE = 0.005  # of a frame's tokens, as in slot health


class FrameMemory(NamedTuple):
    """Keys and values (B, T, N, D) of the fused tokens."""

    key: Tensor
    value: Tensor


class SMTC(Grouper):
    """Fuses tokens with their correspondence to the frame before, then groups them twice.

    Fusion: the dot products of a frame's tokens with those of its reference frame, resized to the
    training grid, are projected to the token width and added. Stage 1: S semantic slots compete
    for all tokens. Stage 2: P instances are drawn around each semantic query and compete for the
    tokens that the gate leaves to their semantic. Both stages share their weights and update slots
    by adding.

    Source: Qian et al. 2023 (SMTC), arXiv:2308.09951, and its released program.
    Differs: no; defaults are the released program of March 2024, whose first release is
    ``gate=soft``. In it the noise of instances carries no gradient, so their spread never learns
    (``instances=reparameterised`` lets it), and frame 0 refers to the last frame of the clip
    (``first_reference=self`` refers to itself).

    Args:
        dims: slot width; number of slots = S; grid and clip length at training.
        num_instances: P, per semantic.
        num_iters: rounds of each stage.
        hidden_dim: of the MLP after each update; None takes the slot width.
        gate: what a semantic leaves to its instances: tokens whose last stage-1 logit is above
            ``gate_threshold`` (``hard_logit``), whose probability over semantics is
            (``hard_probability``), or all, weighted by that probability (``soft``).
        gate_threshold: of the hard gates.
        instances: ``detached`` sends no gradient to the query and an exactly zero one to the
            spread; ``reparameterised`` sends both.
        draw: fresh instance noise ``per_frame``, or one draw ``per_clip``.
        first_reference: frame to which the first of a clip corresponds: ``wrap`` (the last; videos
            are then streamed in groups of the clip length) or ``self``.
        gradient: through all rounds, or only through the ``last``, the start then getting the
            gradient of the last round's input.
        eps: added to attention, and with hard gates to the sum over tokens.
        norm_eps: of the LayerNorms.

    Shapes: query (B, S, D), tokens (B, T, N, D) -> slots (B, S*P, D), instance p of semantic s at
        s*P + p; masks (B, S*P, N) = probability of the semantic times that of the instance in it,
        not gated. ``levels``: ``semantic`` with S slots, masks and the last round's logits;
        ``instance`` with the S*P slots, their share of their semantic divided by S, and logits.

    Raises:
        ConfigError: a number out of range, an unknown word.
    """

    num_iters: int
    levels = frozenset({"semantic", "instance"})

    def __init__(
        self,
        dims: Dims,
        num_instances: int = 4,
        num_iters: int = 3,
        hidden_dim: int | None = None,
        gate: Gate = "hard_logit",
        gate_threshold: float = 0.3,
        instances: Instances = "detached",
        draw: Draw = "per_frame",
        first_reference: FirstReference = "wrap",
        gradient: Gradient = "last",
        eps: float = 1e-8,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        at_least("grouper.num_instances", num_instances, 1, 4)
        at_least("grouper.num_iters", num_iters, 1, 3)
        one_of("grouper.gate", gate, get_args(Gate))
        one_of("grouper.instances", instances, get_args(Instances))
        one_of("grouper.draw", draw, get_args(Draw))
        one_of("grouper.first_reference", first_reference, get_args(FirstReference))
        one_of("grouper.gradient", gradient, get_args(Gradient))
        positive("grouper.eps", eps, 1e-8)
        width, semantics = dims.slot, dims.num_slots
        hidden = width if hidden_dim is None else hidden_dim
        at_least("grouper.hidden_dim", hidden, 1, width)
        self.num_queries, self.num_slots = semantics, semantics * num_instances
        self.num_instances, self.num_iters = num_instances, num_iters
        self.gate, self.gate_threshold, self.eps = gate, gate_threshold, eps
        self.instances, self.draw, self.gradient = instances, draw, gradient
        self.first_reference = first_reference
        self.window = dims.clip_length if first_reference == "wrap" else None
        self.grid, self.scale = dims.grid, width**-0.5
        self.fusion = nn.Linear(math.prod(dims.grid), width)
        # Xavier's bound for a table of S rows, of which the released program counts one as output.
        bound = math.sqrt(6 / (width * (semantics + 1)))
        self.log_std = nn.Parameter(torch.empty(semantics, width).uniform_(-bound, bound))
        self.norm_tokens = nn.LayerNorm(width, eps=norm_eps)
        self.norm_slots = nn.LayerNorm(width, eps=norm_eps)
        self.norm_mlp = nn.LayerNorm(width, eps=norm_eps)
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.mlp = mlp((width, hidden, width), zero_bias=False)

    def prepare(
        self, tokens: Tensor, features: FrameFeatures, carry: State
    ) -> tuple[FrameMemory, Tensor]:
        """Keys and values of tokens (B, T, N, D) fused with their correspondence.

        ``carry`` holds the reference (B, 1, M, D) of the next frame.
        """
        resized = _resize_tokens(tokens, features.grid, self.grid)
        if carry is None:
            carry = resized[:, -1:] if self.first_reference == "wrap" else resized[:, :1]
        reference = torch.cat([carry, resized[:, :-1]], dim=1)  # (B, T, M, D)
        correlation = tokens @ reference.transpose(-1, -2)  # (B, T, N, M)
        fused = self.norm_tokens(tokens + self.fusion(correlation))
        return FrameMemory(self.to_key(fused), self.to_value(fused)), resized[:, -1:]

    def forward(self, query: Tensor, memory: State, *, first: bool, noise: Noise) -> GrouperOutput:
        """Semantic queries (B, S, D) and the memory of one frame -> instances and both levels."""
        key, value = memory
        # The spread gets a zero gradient, not none, whichever outputs the losses look at: several
        # processes wait for every gradient.
        query = query + 0.0 * self.log_std
        start = self._draw_instances(query, noise)
        semantic, logits = self._rounds(query[:, None], key[:, None], value[:, None], None)
        semantic = semantic[:, 0]
        logits = tie_to_slots(logits[:, 0], semantic)
        share = at_least_float32(logits).softmax(dim=1)  # (B, S, N)
        gate = self._gate(logits, share)[:, :, None]
        instance, within = self._rounds(start, key[:, None], value[:, None], gate)
        parts = at_least_float32(within).softmax(dim=2)  # (B, S, P, N)
        slots, masks = instance.flatten(1, 2), (share[:, :, None] * parts).flatten(1, 2)
        levels = {
            "semantic": Level(semantic, share, logits),
            "instance": Level(slots, parts.flatten(1, 2) / share.shape[1], within.flatten(1, 2)),
        }
        return GrouperOutput(slots, masks, levels)

    def confidence(self, slots: Tensor, levels: Mapping[str, Level]) -> Tensor:
        """Cosine (..., S*P) of each instance with its semantic, 0 where it is below."""
        semantic = levels["semantic"].slots.repeat_interleave(self.num_instances, dim=-2)
        return F.cosine_similarity(slots, semantic, dim=-1).clamp(min=0)

    def diagnostics(self, levels: Mapping[str, Level]) -> dict[str, Tensor]:
        """How alive the semantics are, and how open the gates of hard ones.

        ``semantics_alive`` is the share of semantics that win at least 0.5 % of a frame's tokens.
        ``gate_open`` is the share of (semantic, token) pairs that pass; at 0 instances never read.
        """
        _, masks, logits = levels["semantic"]
        won = F.one_hot(masks.argmax(dim=-2), masks.shape[-2]).float().mean(dim=-2)
        alive = {"semantics_alive": (won >= ALIVE).float().mean()}
        if self.gate == "soft" or logits is None:
            return alive
        return alive | {"gate_open": self._gate(logits, masks).mean()}

    def _draw_instances(self, query: Tensor, noise: Noise) -> Tensor:
        """Starting points (B, S, P, D) of the instances around the queries (B, S, D)."""
        source = noise.clip if self.draw == "per_clip" else noise
        batch, semantics, width = query.shape
        eps = source.normal("instances", (batch, semantics, self.num_instances, width), like=query)
        start = query[:, :, None] + self.log_std.exp()[:, None] * eps
        if self.instances == "reparameterised":
            return start
        # Zero, not none, to query and spread: weight decay still moves them.
        return start.detach() + 0.0 * query[:, :, None]

    def _rounds(
        self, start: Tensor, key: Tensor, value: Tensor, gate: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Rounds of attention among the k slots of each of G groups.

        Args:
            start: (B, G, k, D).
            key: (B, 1, N, D).
            value: (B, 1, N, D).
            gate: (B, G, 1, N), or None for no gate.

        Returns:
            Slots (B, G, k, D) and the last round's logits (B, G, k, N).
        """
        slots, logits = start, start
        for i in range(self.num_iters):
            last = i == self.num_iters - 1
            if last and i > 0 and self.gradient == "last":
                # Same numbers, but the start gets the gradient of the last round's input.
                slots = slots.detach() + (start - start.detach())
            with torch.set_grad_enabled(
                torch.is_grad_enabled() and (last or self.gradient == "full")
            ):
                query = self.to_query(self.norm_slots(slots)) * self.scale
                logits = query @ key.transpose(-1, -2)
                weights = self._weights(logits, gate).to(value.dtype)
                slots = slots + weights @ value
                slots = slots + self.mlp(self.norm_mlp(slots))
        return slots, logits

    def _weights(self, logits: Tensor, gate: Tensor | None) -> Tensor:
        """Weights of the tokens in each slot's read-out, from logits (B, G, k, N)."""
        masks = at_least_float32(logits).softmax(dim=-2) + self.eps
        if gate is None:
            return masks / masks.sum(dim=-1, keepdim=True)
        masks = masks * gate
        closed = 0.0 if self.gate == "soft" else self.eps  # a closed gate reads nothing
        return masks / (masks.sum(dim=-1, keepdim=True) + closed)

    def _gate(self, logits: Tensor, share: Tensor) -> Tensor:
        """How open each token is to each semantic, (B, S, N)."""
        if self.gate == "soft":
            return share
        seen = logits if self.gate == "hard_logit" else share
        return (seen > self.gate_threshold).to(share.dtype)


def _resize_tokens(tokens: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Tokens (B, T, N, D) on a grid -> (B, T, M, D) on another, bilinearly."""
    if grid == size:
        return tokens
    maps = rearrange(tokens, "b t (h w) d -> (b t) d h w", h=grid[0])
    maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    return rearrange(maps, "(b t) d h w -> b t (h w) d", b=tokens.shape[0])
