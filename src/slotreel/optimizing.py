"""From configuration to an optimizer of what is trainable at some time."""

from __future__ import annotations

import fnmatch
from typing import Any

from omegaconf import DictConfig
from torch import nn

from slotreel.assemble import make
from slotreel.interfaces import Objective
from slotreel.training.optim import Optimizer


def build_optimizer(cfg: DictConfig, objective: Objective) -> Optimizer:
    """Optimizer, groups and clipping of ``cfg.optim`` over the objective's parameters.

    Raises:
        ConfigError: a parameter without a group, or a group without parameters.
    """
    return Optimizer(
        trainable_sometime(objective),
        make(cfg.optim.optimizer),
        {name: _group(spec) for name, spec in cfg.optim.groups.items()},
        cfg.optim.clip,
    )


def trainable_sometime(objective: Objective) -> list[tuple[str, nn.Parameter]]:
    """Parameters that are trainable now or in some phase."""
    globs = [glob for phase in objective.phases() for glob, on in phase.trainable.items() if on]
    return [
        (name, parameter)
        for name, parameter in objective.named_parameters()
        if parameter.requires_grad or any(fnmatch.fnmatchcase(name, glob) for glob in globs)
    ]


def _group(spec: DictConfig) -> dict[str, Any]:
    group: dict[str, Any] = dict(spec)
    group["schedule"] = make(spec.schedule)()
    return group
