"""Fully connected stacks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn


def mlp(widths: Sequence[int], *, zero_bias: bool = True) -> nn.Sequential:
    """Linear layers from each width to the next with a ReLU between two of them.

    Args:
        widths: input, hidden and output widths, e.g. (64, 256, 64).
        zero_bias: start all biases at zero instead of PyTorch's uniform values.

    Returns:
        Linear, ReLU, Linear, ..., Linear: the Linears sit at even indices.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        if zero_bias:
            nn.init.zeros_(linear.bias)
        # A Linear keeps its input for the backward, not its output: overwriting that is safe.
        layers += [linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
