"""An averaged copy of a model: which of its tensors follow, and how."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from slotreel.errors import ConfigError, nearest


def matching(names: Iterable[str], globs: Sequence[str]) -> frozenset[str]:
    """Those of ``names`` that match one of ``globs``."""
    return frozenset(n for n in names if any(fnmatch.fnmatchcase(n, glob) for glob in globs))


def kept_names(model: nn.Module, globs: Sequence[str]) -> frozenset[str]:
    """Tensors of ``model`` (parameters and buffers) whose copy never follows.

    Raises:
        ConfigError: a glob matches nothing.
    """
    names = list(model.state_dict())
    for glob in globs:
        if not matching(names, [glob]):
            parts = {name.split(".")[0] + ".*" for name in names}
            raise ConfigError(
                f"model.ema_keeps names {glob}, but nothing of the model matches it; "
                f"{nearest(glob, parts)} An empty list lets everything follow: model.ema_keeps=[]"
            )
    return matching(names, globs)


@torch.no_grad()
def follow(copy: nn.Module, model: nn.Module, momentum: float, kept: frozenset[str]) -> None:
    """Move the copy: momentum * copy + (1 - momentum) * model, but for what is ``kept``."""
    averaged = copy.state_dict()
    for name, value in model.state_dict().items():
        if name in kept:
            continue
        if value.is_floating_point():
            averaged[name].lerp_(value, 1 - momentum)
        else:
            averaged[name].copy_(value)
