"""Every frame starts anew."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from slotreel.interfaces import Predictor
from slotreel.types import Dims, State


class Reinit(Predictor):
    """The initializer makes the query of every frame; nothing is carried over.

    Source: Seitzer et al. 2023 (DINOSAUR), arXiv:2209.14860, applied to each frame.
    Differs: no.

    Args:
        dims: not used beyond the common signature.

    Shapes: none; the model reads ``reinit`` and asks the initializer.

    Raises:
        RuntimeError: if called.
    """

    reinit = True

    def __init__(self, dims: Dims) -> None:
        super().__init__()

    def forward(self, slots: Tensor, state: State, tokens: Tensor) -> NoReturn:
        """Not part of the method."""
        raise RuntimeError("predictor=reinit has no query of its own: ask the initializer")
