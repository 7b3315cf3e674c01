"""Queries drawn from normal distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Initializer
from slotreel.layers.checks import one_of, positive
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, Hints

Start = Literal["constant", "xavier"]


class GaussianInit(Initializer):
    """Query = mean + exp(log_std) * noise, drawn for each clip, in evaluation too.

    Source: Locatello et al. 2020, arXiv:2006.15055, algorithm 1; ``start=xavier`` is STEVE
    (arXiv:2205.14065) and DINOSAVi, ``start=constant`` VideoSAUR (arXiv:2306.04829); ``groups`` is
    DINOSAVi's background and foreground; ``trainable=false initial_std=1`` is OSC's normal.
    Differs: ``per_slot`` is in none of them.

    Args:
        dims: slot width D and number of queries Q.
        trainable: learn mean and log_std.
        per_slot: own mean and log_std for each slot instead of one for all.
        start: ``constant``: mean 0, std ``initial_std``; ``xavier``: mean and log_std uniform in
            +-sqrt(3 / D).
        initial_std: of ``start=constant``; None takes D ** -0.5.
        groups: sizes that sum to Q; each group of slots adds its own mean and log_std, at the start
            uniform in +-sqrt(3 / D).

    Shapes: -> query (B, Q, D).

    Raises:
        ConfigError: groups that do not sum to Q or that come with per_slot, an unknown start, an
            initial_std that is not positive or that ``start=xavier`` would not use, constants
            (``trainable=false``) that are random.
    """

    reads_hints = False

    mean: Tensor
    log_std: Tensor

    def __init__(
        self,
        dims: Dims,
        trainable: bool = True,
        per_slot: bool = False,
        start: Start = "constant",
        initial_std: float | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        one_of("initializer.start", start, get_args(Start))
        if start == "xavier" and initial_std is not None:
            raise ConfigError(
                f"initializer.initial_std={initial_std} belongs to initializer.start=constant; "
                "type initializer.initial_std=null"
            )
        if not trainable and (start == "xavier" or per_slot or groups):
            raise ConfigError(
                "initializer.trainable=false draws from one fixed normal; type "
                "initializer.start=constant initializer.per_slot=false initializer.groups=null"
            )
        std = dims.slot**-0.5 if initial_std is None else initial_std
        positive("initializer.initial_std", std, dims.slot**-0.5)
        self.num_queries = dims.num_queries
        shape = (1, dims.num_queries if per_slot else 1, dims.slot)
        mean, log_std = torch.zeros(shape), torch.full(shape, math.log(std))
        if start == "xavier":
            mean, log_std = _uniform(shape), _uniform(shape)
        if trainable:
            self.mean, self.log_std = nn.Parameter(mean), nn.Parameter(log_std)
        else:
            self.register_buffer("mean", mean)
            self.register_buffer("log_std", log_std)
        self.group_mean: nn.Parameter | None = None
        self.group_log_std: nn.Parameter | None = None
        self.groups = tuple(groups or ())
        if self.groups:
            self._check_groups(per_slot)
            shape = (1, len(self.groups), dims.slot)
            self.group_mean = nn.Parameter(_uniform(shape))
            self.group_log_std = nn.Parameter(_uniform(shape))

    def _check_groups(self, per_slot: bool) -> None:
        if sum(self.groups) != self.num_queries or min(self.groups) < 1:
            fits = f"[1,{self.num_queries - 1}]" if self.num_queries > 1 else "null"
            raise ConfigError(
                f"initializer.groups={list(self.groups)} must be positive and sum to num_slots="
                f"{self.num_queries}; type initializer.groups={fits}"
            )
        if per_slot:
            raise ConfigError(
                "initializer.groups shares a distribution within a group, per_slot does not; type "
                "initializer.per_slot=false or initializer.groups=null"
            )

    def forward(
        self, tokens: Tensor, features: FrameFeatures, hints: Hints, batch_size: int, noise: Noise
    ) -> Tensor:
        """A draw for each clip."""
        mean, log_std = self.mean, self.log_std
        if self.group_mean is not None and self.group_log_std is not None:
            mean = mean + _repeat(self.group_mean, self.groups)
            log_std = log_std + _repeat(self.group_log_std, self.groups)
        shape = (batch_size, self.num_queries, mean.shape[-1])
        return mean + log_std.exp() * noise.normal("initializer", shape, like=mean)


def _uniform(shape: tuple[int, int, int]) -> Tensor:
    """Xavier-uniform values of a (1, 1, D) tensor, for each row alone."""
    bound = math.sqrt(3.0 / shape[-1])
    return torch.empty(shape).uniform_(-bound, bound)


def _repeat(rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Rows (1, G, D) -> (1, Q, D): row g as often as its group is large."""
    parts = [rows[:, g : g + 1].expand(-1, size, -1) for g, size in enumerate(sizes)]
    return torch.cat(parts, dim=1)
