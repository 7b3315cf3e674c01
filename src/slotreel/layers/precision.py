"""Arithmetic that stays in single precision under autocast."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """16-bit values as float32; wider ones untouched."""
    return x.float() if x.element_size() < 4 else x


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False)
