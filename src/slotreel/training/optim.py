"""One optimizer with named groups, and schedules as pure functions of the step."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Schedule
from slotreel.types import Phase


class Constant:
    """Factor 1 at every step.

    Args:
        warmup: steps of linear rise from 0 (the very first update has factor 0).
    """

    def __init__(self, warmup: int = 0) -> None:
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        """Factor at ``step`` = number of updates done so far."""
        return step / self.warmup if step < self.warmup else 1.0


class Cosine(Constant):
    """Linear warm-up, then half a cosine from 1 to ``final`` at ``num_steps``.

    Args:
        warmup: steps of linear rise from 0.
        num_steps: length of training; the factor stays at ``final`` afterwards.
        final: factor at the end.
    """

    def __init__(self, num_steps: int, warmup: int = 0, final: float = 0.0) -> None:
        super().__init__(warmup)
        self.num_steps, self.final = num_steps, final

    def __call__(self, step: int) -> float:
        """Factor at ``step``."""
        if step < self.warmup:
            return super().__call__(step)
        done = min((step - self.warmup) / max(self.num_steps - self.warmup, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


class ExponentialHalving(Constant):
    """Linear warm-up, then halved every ``halved_at - warmup`` steps.

    Source: SlotContrast and VideoSAUR training recipes:
    f(s) = 0.5 ** ((s - warmup) / (halved_at - warmup)).

    Args:
        halved_at: step at which the factor is 1/2.
        warmup: steps of linear rise from 0.
    """

    def __init__(self, halved_at: int, warmup: int = 0) -> None:
        super().__init__(warmup)
        self.halved_at = halved_at

    def __call__(self, step: int) -> float:
        """Factor at ``step``."""
        if step < self.warmup:
            return super().__call__(step)
        return 0.5 ** ((step - self.warmup) / (self.halved_at - self.warmup))


class Group(NamedTuple):
    """A named part of the optimizer."""

    name: str
    lr: float
    schedule: Schedule


class Optimizer:
    """torch optimizer + groups + clipping; ``step`` is where all of them meet.

    Args:
        named_parameters: (name, parameter) of everything trainable at some time.
        optimizer: torch optimizer class or partial, called with parameter groups.
        groups: ``{name: {match: [glob], lr, weight_decay, schedule}}``; the first match wins.
        clip: ``{max, norm}`` with norm 2 or ``inf``; max null means never.

    Raises:
        ConfigError: a parameter matches no group, or a group matches no parameter.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        optimizer: Callable[..., torch.optim.Optimizer],
        groups: Mapping[str, Mapping[str, Any]],
        clip: Mapping[str, Any],
    ) -> None:
        members: dict[str, list[nn.Parameter]] = {name: [] for name in groups}
        for name, parameter in named_parameters:
            owner = _group_of(name, groups)
            members[owner].append(parameter)
        empty = [name for name, parameters in members.items() if not parameters]
        if empty:
            raise ConfigError(
                f"optim.groups.{empty[0]} matches no parameter (match: "
                f"{list(groups[empty[0]]['match'])}); remove the group: '~optim.groups.{empty[0]}'"
            )
        self.groups = [
            Group(name, float(group["lr"]), group["schedule"]) for name, group in groups.items()
        ]
        self.torch = optimizer(
            [
                {
                    "params": members[name],
                    "lr": float(group["lr"]),
                    "weight_decay": group["weight_decay"],
                }
                for name, group in groups.items()
            ]
        )
        self.max_norm = None if clip["max"] is None else float(clip["max"])
        self.norm_type = float(clip["norm"])
        self.parameters = [parameter for group in members.values() for parameter in group]

    def set_step(self, step: int) -> dict[str, float]:
        """Set the learning rates of ``step``; returns them by group."""
        rates = {}
        for group, torch_group in zip(self.groups, self.torch.param_groups, strict=True):
            rates[group.name] = torch_group["lr"] = group.lr * group.schedule(step)
        return rates

    def clip(self) -> Tensor:
        """Clip gradients to the largest norm allowed; returns the norm before clipping."""
        largest = math.inf if self.max_norm is None else self.max_norm
        trained = [p for p in self.parameters if p.grad is not None]
        return torch.nn.utils.clip_grad_norm_(trained, largest, norm_type=self.norm_type)

    def step(self) -> None:
        """Update parameters and forget gradients."""
        self.torch.step()
        self.torch.zero_grad(set_to_none=True)


def _group_of(name: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    for group, spec in groups.items():
        if any(fnmatch.fnmatchcase(name, glob) for glob in spec["match"]):
            return group
    raise ConfigError(
        f"parameter {name} matches no optimizer group ({', '.join(groups)}); "
        "end optim.groups with one that has match: ['*']"
    )


def phases_begun(phases: list[Phase], step: int) -> list[Phase]:
    """Phases that count at ``step``, in the order they began.

    The loop re-wraps DDP when their number changes, because changing ``requires_grad`` under DDP
    silently leaves ranks with different gradients.
    """
    return sorted((p for p in phases if step >= p.from_step), key=lambda p: p.from_step)


def apply_phases(module: nn.Module, begun: list[Phase]) -> None:
    """Set ``requires_grad`` as the phases say, later ones last.

    Raises:
        ConfigError: a phase names parameters that do not exist.
    """
    for phase in begun:
        for glob, trainable in phase.trainable.items():
            named = module.named_parameters()
            matched = [p for name, p in named if fnmatch.fnmatchcase(name, glob)]
            if not matched:
                raise ConfigError(f"a phase names {glob}, but no parameter of the model matches it")
            for parameter in matched:
                parameter.requires_grad_(trainable)
                if not trainable:
                    parameter.grad = None
