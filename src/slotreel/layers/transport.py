"""Entropic optimal transport between two sets of weighted points, many problems at once."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    epsilon: float,
    num_iters: int,
    log_domain: bool = False,
) -> Tensor:
    """A transport plan by Sinkhorn's scaling, starting from columns scaled by 1.

    Each round scales rows, then columns, so that column sums are exact and row sums approximate.

    Source: Cuturi 2013, arXiv:1306.0895: kernel exp(-cost / epsilon), plan diag(u) kernel diag(v).
    Differs: ``log_domain`` keeps logarithms of u and v, which cannot underflow, at two
    exponentials per entry and round.

    Args:
        cost: (..., N, M).
        rows: (..., N) mass of each row, not negative.
        columns: (..., M) mass of each column, of the same total.
        epsilon: strength of the entropy, in units of the cost.
        num_iters: rounds, at least one.
        log_domain: work with logarithms.

    Returns:
        (..., N, M), without gradient.
    """
    if log_domain:
        kernel = cost / -epsilon
        log_rows, log_columns = rows.log(), columns.log()
        v = torch.zeros_like(columns)
        for _ in range(num_iters):
            u = log_rows - (kernel + v[..., None, :]).logsumexp(dim=-1)
            v = log_columns - (kernel + u[..., None]).logsumexp(dim=-2)
        return kernel.add_(u[..., None]).add_(v[..., None, :]).exp_()
    kernel = (cost / -epsilon).exp_()
    v = torch.ones_like(columns)[..., None]
    for _ in range(num_iters):
        u = rows[..., None] / (kernel @ v)
        v = columns[..., None] / (kernel.mT @ u)
    return kernel.mul_(u).mul_(v.mT)
