"""Slot attention: slots compete for tokens."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Grouper
from slotreel.layers.checks import at_least, one_of, positive
from slotreel.layers.mlp import mlp
from slotreel.layers.precision import at_least_float32
from slotreel.layers.recurrent import SlotGRU
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, GrouperOutput, State

EpsPlace = Literal["add", "divisor", "clamp"]
GRUState = Literal["normed", "raw"]
Gradient = Literal["full", "last"]


class SlotAttention(Grouper):
    """Softmax over slots assigns tokens, weighted means of values update slots, some rounds.

    Source: Locatello et al. 2020, arXiv:2006.15055, algorithm 1; defaults are those of the
    SlotContrast program (Manasyan et al. 2025), which the arguments turn into the other variants:
    original and STEVE ``gru_state=raw``, STEVE also ``skip_last_mlp=true``; SAVi ``gru_state=raw
    eps_place=divisor norm_eps=1e-6 hidden_dim=0`` with one round; DINOSAVi ``gru_state=raw
    eps_place=divisor eps=1e-6``.
    Differs: no; the published algorithm's ``gru_state`` is raw, that of the program is normed.

    Args:
        dims: slot width and number of slots.
        num_iters: rounds at every frame but the first.
        num_iters_first: rounds at the first frame of a clip; None takes ``num_iters``.
        kvq_dim: width of keys, values and queries; None takes the slot width.
        hidden_dim: of the MLP after each update; None takes four times the slot width, 0 no MLP.
        gru: update by a GRU; otherwise by adding.
        gru_state: what the update starts from: the slot itself or its LayerNorm.
        eps: keeps the mean over tokens finite.
        eps_place: where: ``add`` (A + eps) / sum(A + eps), ``divisor`` A / (sum A + eps),
            ``clamp`` A / max(sum A, eps).
        skip_last_mlp: leave out the MLP in the last round.
        gradient: through all rounds, or only through the last, the query then getting the gradient
            of the last round's input.
        norm_eps: of the LayerNorms.

    Shapes: query (B, K, D), tokens (B, T, N, D) -> slots (B, K, D), masks (B, K, N): the last
        round's softmax over K.

    Raises:
        ConfigError: rounds below 1, an unknown word, adding at kvq_dim other than the slot width,
            an MLP that would never be trained.
    """

    num_iters: int

    def __init__(
        self,
        dims: Dims,
        num_iters: int = 2,
        num_iters_first: int | None = 3,
        kvq_dim: int | None = None,
        hidden_dim: int | None = None,
        gru: bool = True,
        gru_state: GRUState = "normed",
        eps: float = 1e-8,
        eps_place: EpsPlace = "add",
        skip_last_mlp: bool = False,
        gradient: Gradient = "full",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        first = num_iters if num_iters_first is None else num_iters_first
        at_least("grouper.num_iters", num_iters, 1, 2)
        at_least("grouper.num_iters_first", first, 1, 3)
        one_of("grouper.gru_state", gru_state, get_args(GRUState))
        one_of("grouper.eps_place", eps_place, get_args(EpsPlace))
        one_of("grouper.gradient", gradient, get_args(Gradient))
        positive("grouper.eps", eps, 1e-8)
        width = dims.slot
        inner = width if kvq_dim is None else kvq_dim
        at_least("grouper.kvq_dim", inner, 1, width)
        if not gru and inner != width:
            raise ConfigError(
                f"gru=false adds updates of width kvq_dim={inner} to slots of width {width}; "
                f"type grouper.kvq_dim={width} or grouper.gru=true"
            )
        hidden = 4 * width if hidden_dim is None else hidden_dim
        at_least("grouper.hidden_dim", hidden, 0, 4 * width)
        if skip_last_mlp and gradient == "last" and hidden:
            raise ConfigError(
                "skip_last_mlp=true with gradient=last leaves the MLP without any gradient; type "
                "grouper.gradient=full or grouper.hidden_dim=0"
            )
        self.num_queries = self.num_slots = dims.num_slots
        self.num_iters, self.num_iters_first = num_iters, first
        self.longest = first if dims.clip_length == 1 else max(first, num_iters)
        self.gru_state, self.eps, self.eps_place = gru_state, eps, eps_place
        self.skip_last_mlp, self.gradient = skip_last_mlp, gradient
        self.scale = inner**-0.5
        self.norm_tokens = nn.LayerNorm(width, eps=norm_eps)
        self.to_key = nn.Linear(width, inner, bias=False)
        self.to_value = nn.Linear(width, inner, bias=False)
        self.norm_slots = nn.LayerNorm(width, eps=norm_eps)
        self.to_query = nn.Linear(width, inner, bias=False)
        self.gru: SlotGRU | None = SlotGRU(inner, width) if gru else None
        self.norm_mlp: nn.LayerNorm | None = None
        self.mlp: nn.Sequential | None = None
        if hidden:
            self.norm_mlp = nn.LayerNorm(width, eps=norm_eps)
            self.mlp = mlp((width, hidden, width))

    def without_gradient(self) -> set[str]:
        """The MLP, where the only round is the last and the last goes without it."""
        if not self.skip_last_mlp or self.longest > 1:
            return set()
        return {n for n, _ in self.named_parameters() if n.split(".")[0] in ("norm_mlp", "mlp")}

    def prepare(
        self, tokens: Tensor, features: FrameFeatures, carry: State
    ) -> tuple[tuple[Tensor, Tensor], None]:
        """Keys and values (B, T, N, kvq_dim) of all frames."""
        normed = self.norm_tokens(tokens)
        return (self.to_key(normed), self.to_value(normed)), None

    def forward(self, query: Tensor, memory: State, *, first: bool, noise: Noise) -> GrouperOutput:
        """Query (B, K, D) and (keys, values) of one frame -> slots and masks."""
        key, value = memory
        slots, masks = query, None
        rounds = self.num_iters_first if first else self.num_iters
        for i in range(rounds):
            last = i == rounds - 1
            if last and self.gradient == "last" and rounds > 1:
                # Same numbers, but the query gets the gradient of the last round's input.
                slots = slots.detach() + (query - query.detach())
            with torch.set_grad_enabled(
                torch.is_grad_enabled() and (last or self.gradient == "full")
            ):
                slots, masks = self._round(slots, key, value, last)
        assert masks is not None, "there is at least one round"
        return GrouperOutput(slots, masks)

    def _round(
        self, slots: Tensor, key: Tensor, value: Tensor, last: bool
    ) -> tuple[Tensor, Tensor]:
        normed = self.norm_slots(slots)
        logits = (self.to_query(normed) * self.scale) @ key.transpose(-1, -2)  # (B, K, N)
        masks = at_least_float32(logits).softmax(dim=-2)
        update = self._shares(masks).to(value.dtype) @ value
        state = normed if self.gru_state == "normed" else slots
        slots = state + update if self.gru is None else self.gru(update, state)
        if self.mlp is not None and self.norm_mlp is not None and not (last and self.skip_last_mlp):
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots, masks

    def _shares(self, masks: Tensor) -> Tensor:
        """Weights (B, K, N) of the tokens in each slot's mean."""
        if self.eps_place == "add":
            masks = masks + self.eps
            return masks / masks.sum(dim=-1, keepdim=True)
        total = masks.sum(dim=-1, keepdim=True)
        if self.eps_place == "divisor":
            return masks / (total + self.eps)
        return masks / total.clamp(min=self.eps)
