"""One line of the table of fidelity: what we compute beside what was published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Numbers = Sequence[float] | np.ndarray | Tensor


class Row(NamedTuple):
    """A quantity, its published numbers and how we compute ours."""

    part: str
    quantity: str
    published: Callable[[], Numbers]
    ours: Callable[[], Numbers]
    tolerance: float

    def error(self) -> float:
        """Largest absolute difference; infinite where only one of the two is a number."""
        ours, published = (
            np.asarray(x, dtype=np.float64).ravel() for x in (self.ours(), self.published())
        )
        assert ours.shape == published.shape, (self.part, self.quantity)
        assert ours.size, (self.part, self.quantity)
        both = np.isnan(ours) & np.isnan(published)
        difference = np.where(both, 0.0, np.abs(ours - published))
        return float(np.nan_to_num(difference, nan=np.inf).max())


def printed(
    part: str,
    quantity: str,
    text: str,
    ours: Callable[[], Numbers],
    tolerance: float = 1e-5,
) -> Row:
    """A row whose published numbers are given as text."""

    def values() -> Numbers:
        return [float(word) for word in text.split()]

    def detached() -> Numbers:
        out = ours()
        return out.detach() if isinstance(out, torch.Tensor) else out

    return Row(part, quantity, values, detached, tolerance)
