"""Entropic optimal transport between two sets of weighted points, many problems at once."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def carry(
    values: Tensor,
    kernel: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    num_iters: int,
    log_domain: bool = False,
) -> Tensor:
    """Values of the columns, brought to the rows by a transport plan: plan @ values.

    The plan is diag(u) kernel diag(v) by Sinkhorn's scaling, starting from v = 1. Each round finds
    u, then v, so that column sums of the plan are exact and row sums approximate.

    Source: Cuturi 2013, arXiv:1306.0895. Differs: plan and values are multiplied from the right, so
    that the plan is not formed; ``log_domain`` keeps logarithms of u and v, which cannot
    underflow, at two exponentials per entry and round, and does form it.

    Args:
        values: (..., M, S).
        kernel: (..., N, M), exp(-cost / epsilon), or its logarithm if ``log_domain``; a constant
            added to the cost changes nothing, and the way back has the transpose.
        rows: (..., N) mass of each row, not negative.
        columns: (..., M) mass of each column, of the same total.
        num_iters: rounds, at least one.
        log_domain: work with logarithms.

    Returns:
        (..., N, S), without gradient.
    """
    if log_domain:
        log_rows, log_columns = rows[..., None].log(), columns[..., None, :].log()
        v = torch.zeros_like(log_columns)
        for _ in range(num_iters):
            u = log_rows - (kernel + v).logsumexp(dim=-1, keepdim=True)
            v = log_columns - (kernel + u).logsumexp(dim=-2, keepdim=True)
        return (kernel + u).add_(v).exp_() @ values
    # A row times a matrix is several times faster than a matrix times a column in torch.
    rows, columns = rows[..., None, :], columns[..., None, :]
    v = torch.ones_like(columns)
    for _ in range(num_iters):
        u = rows / (v @ kernel.mT)
        v = columns / (u @ kernel)
    return u.mT * (kernel @ (v.mT * values))
