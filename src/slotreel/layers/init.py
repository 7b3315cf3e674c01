"""Initial values of weights that PyTorch does not provide."""

from __future__ import annotations

import math

from torch import Tensor, nn

# Standard deviation of a unit normal cut at two standard deviations.
_CUT_STD = 0.87962566103423978


def lecun_normal_(weight: Tensor) -> Tensor:
    """Normal values cut at two standard deviations, variance 1 / fan-in, in place.

    Source: LeCun et al. 1998, section 4.6; the default of the JAX programs whose layers we port.
    """
    fan_in = weight[0].numel()
    std = math.sqrt(1.0 / fan_in) / _CUT_STD
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
