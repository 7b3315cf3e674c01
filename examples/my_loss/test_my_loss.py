"""``pytest examples/my_loss`` checks the idea; ``pytest tests/contracts --config-dir`` the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from my_loss import SpreadSlots


def value(slots: torch.Tensor) -> float:
    loss = SpreadSlots(dims=None)  # type: ignore[arg-type]
    ctx: Any = SimpleNamespace(student=(SimpleNamespace(slots=slots),))
    return float(loss(ctx)[0])


def test_orthogonal_slots_cost_nothing() -> None:
    assert value(torch.eye(4)[None, None]) == 0.0


def test_equal_slots_cost_one() -> None:
    assert abs(value(torch.ones(2, 3, 4, 8)) - 1.0) < 1e-6
