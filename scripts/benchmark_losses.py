#!/usr/bin/env python
"""Time the losses of SMTC, forward and backward, beside their formulas as they read.

    python scripts/benchmark_losses.py [--repeats 9] [--clock cpu] [--device cuda] [--json FILE]

All ways of a case run in turn in one process, repeat after repeat, on one thread. Values and
gradients must agree to 1e-5, else the exit status is 1. Each line gives the median and the
quartiles of a way's time, and the median over the repeats of its time divided by slotreel's.

The plain ways (`plain_losses.py`):
  pair by pair         a loop over pairs of frames; each with a (B, S, N, N) product that the
                       backward pass keeps
  solver per problem   a loop over pairs of frames; SciPy's assignment for each semantic slot
  problem by problem   a loop over clips, pairs of frames and semantic slots
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from benchmarking import Case, add_options, report
from plain_losses import (
    pair_loop_transport,
    single_consistency,
    solver_consistency,
    solver_per_problem,
)
from torch import Tensor

from slotreel.layers.assignment import best_assignment
from slotreel.losses.instance_consistency import consistency_sums
from slotreel.losses.semantic_transport import SemanticTransportLoss
from slotreel.types import Dims

TOLERANCE = 1e-5
Term = Callable[[Tensor], Tensor]


def with_gradient(term: Term, x: Tensor) -> np.ndarray:
    """Value and gradient of a term in one array.

    The gradient is scaled by its number of entries: else it would be small, however wrong.
    """
    leaf = x.detach().requires_grad_()
    value = term(leaf)
    value.backward()
    assert leaf.grad is not None
    return torch.cat([value.detach()[None], leaf.grad.flatten() * leaf.numel()]).cpu().numpy()


def solved(solve: Callable[[Tensor], Tensor], score: Tensor) -> np.ndarray:
    """Assignments as an array."""
    return solve(score).cpu().numpy()


def term_case(name: str, x: Tensor, terms: dict[str, Term]) -> Case:
    """Forms of one term on the same input."""
    return Case(name, 1, {way: partial(with_gradient, term, x) for way, term in terms.items()})


def cases(options: argparse.Namespace) -> list[Case]:
    """Each term, and assignments alone."""
    b, t, s, p, n, d = options.shape
    torch.manual_seed(0)
    draw = partial(torch.randn, device=options.device)
    logits, features = draw(b, t, s, n), draw(b, t, n, d)
    teacher = draw(b, t, s, n).softmax(dim=2)
    objects, others = draw(b, t, s, p, d), F.normalize(draw(b, t, s, p, d), dim=-1)
    flags = [(draw(b, t, s, p) > 0).float() for _ in range(2)]
    loss = SemanticTransportLoss(Dims(d, d, s, s * p, (1, n), (1, n), t))

    def ours_transport(x: Tensor) -> Tensor:
        return loss.value(x.softmax(dim=2), teacher, features)

    def plain_transport(x: Tensor) -> Tensor:
        return pair_loop_transport(x.softmax(dim=2), teacher, features)

    def ours_consistency(x: Tensor) -> Tensor:
        top, bottom = consistency_sums(F.normalize(x, dim=-1), others, *flags, margin=0.5)
        return top / bottom

    def plain_consistency(form: Callable[..., Tensor], x: Tensor) -> Tensor:
        return form(F.normalize(x, dim=-1), others, *flags)

    shape = f"B={b} T={t} S={s} P={p} N={n} width {d}"
    found = [
        term_case(
            f"semantic_transport, ms ({shape})",
            logits,
            {"slotreel": ours_transport, "pair by pair": plain_transport},
        ),
        term_case(
            f"instance_consistency, ms ({shape})",
            objects,
            {
                "slotreel": ours_consistency,
                "solver per problem": partial(plain_consistency, solver_consistency),
                "problem by problem": partial(plain_consistency, single_consistency),
            },
        ),
    ]
    for size in (p, 2 * p):
        score = draw(b, t, t, s, size, size)
        ways = {
            "slotreel": partial(solved, best_assignment, score),
            "solver per problem": partial(solved, solver_per_problem, score),
        }
        found.append(Case(f"{b * t * t * s} assignments of {size}, ms", 1, ways))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape", type=int, nargs=6, default=(8, 4, 16, 4, 256, 384), metavar=tuple("BTSPND")
    )
    add_options(parser, repeats=9)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    return report(cases(options), options, TOLERANCE, {"scipy": scipy.__version__})


if __name__ == "__main__":
    sys.exit(main())
