"""Diagnostics that several losses log."""

from __future__ import annotations

from torch import Tensor


def explained(error: Tensor, target: Tensor) -> Tensor:
    """Share of variance explained: 1 - mean squared error / variance.

    Args:
        error: mean squared error, scalar.
        target: (..., channels); its variance is taken about the mean of each channel, so that 0 is
            what predicting that mean would score.

    Returns:
        Scalar, detached; minus infinity or nan if the target does not vary.
    """
    target = target.detach().flatten(0, -2)
    return 1.0 - error.detach() / target.var(dim=0, correction=0).mean()
