"""Diagnostics that several losses log."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def patch_error(term: str, pred: Tensor, target: Tensor, axes: str) -> tuple[Tensor, Tensor]:
    """Mean squared error of what was decoded for each patch, and the share it explains.

    Args:
        term: name of the loss, for the error.
        pred: (frames, patches, channels).
        target: the same shape, without gradient.
        axes: what the axes are, for the error.

    Raises:
        ValueError: the shapes differ.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f"{term} expects predictions of shape {tuple(target.shape)} ({axes}), got "
            f"{tuple(pred.shape)}; the decoder must work on the patch grid"
        )
    error = F.mse_loss(pred, target)
    return error, explained(error, target)


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
