"""Plain forms of losses, written as their formulas read, for ``benchmark_losses.py``."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def pair_loop_transport(student: Tensor, teacher: Tensor, features: Tensor) -> Tensor:
    """Semantic transport with a loop over pairs of frames and all products of token and slot.

    Args:
        student: masks (B, T, S, N).
        teacher: masks (B, T, S, N).
        features: of the teacher (B, T, N, E).
    """
    unit = F.normalize(features, dim=-1)
    losses = []
    for i, j in itertools.permutations(range(student.shape[1]), 2):
        with torch.no_grad():
            rows, columns = (
                F.normalize(unit[:, k].abs().sum(dim=-1), p=1.0, dim=-1) for k in (i, j)
            )
            kernel = (-(1 - unit[:, i] @ unit[:, j].mT) / 0.05).exp()
            v = torch.ones_like(columns)
            for _ in range(3):
                u = rows / torch.einsum("bnm,bm->bn", kernel, v)
                v = columns / torch.einsum("bnm,bn->bm", kernel, u)
            plan = u[:, :, None] * kernel * v[:, None]
        product = teacher[:, j, :, None] * (student[:, i, :, :, None] + 1e-8).log()  # (B, S, N, N)
        losses.append((plan * -product.sum(dim=1)).sum(dim=(1, 2)).mean())
    return torch.stack(losses).mean()


def solver_per_problem(score: Tensor) -> Tensor:
    """Best assignments (..., P) of scores (..., P, P), one call of SciPy for each."""
    problems = score.detach().flatten(0, -3).cpu().numpy()
    found = [linear_sum_assignment(problem, maximize=True)[1] for problem in problems]
    return torch.stack([torch.from_numpy(row) for row in found]).view(score.shape[:-1])


def solver_consistency(
    objects: Tensor, teacher: Tensor, valid: Tensor, teacher_valid: Tensor
) -> Tensor:
    """Instance consistency with a loop over pairs of frames and a solver for each semantic slot.

    Args:
        objects: of the student (B, T, S, P, D), of length 1.
        teacher: the teacher's.
        valid: (B, T, S, P), 0 or 1.
        teacher_valid: the teacher's.
    """
    frames, size = objects.shape[1], objects.shape[3]
    total, count = objects.new_zeros(()), objects.new_zeros(())
    for i, j in itertools.product(range(frames), repeat=2):
        cosine = torch.einsum("bspd,bsqd->bspq", objects[:, i], teacher[:, j])
        match = solver_per_problem(cosine).to(cosine.device)
        taken = F.one_hot(match, size).to(cosine.dtype)
        repelled = (F.relu(cosine - 0.5) * (1 - taken)).sum(dim=-1) / (size - 1)
        attracted = (cosine * taken).sum(dim=-1) * teacher_valid[:, j].gather(-1, match)
        total = total + (valid[:, i] * (repelled - attracted)).sum()
        count = count + (valid[:, i] + 1e-10).sum()
    return total / count


def single_consistency(
    objects: Tensor, teacher: Tensor, valid: Tensor, teacher_valid: Tensor
) -> Tensor:
    """Instance consistency with a loop over everything: clips, pairs of frames, semantic slots.

    Arguments as for ``solver_consistency``.
    """
    clips, frames, slots, size = objects.shape[:4]
    terms, count = [], 0.0
    for b, i, j, s in itertools.product(range(clips), range(frames), range(frames), range(slots)):
        cosine = objects[b, i, s] @ teacher[b, j, s].T
        _, match = linear_sum_assignment(cosine.detach().cpu().numpy(), maximize=True)
        column = torch.from_numpy(match).to(cosine.device)
        own = cosine.gather(1, column[:, None])[:, 0]
        repelled = ((cosine - 0.5).relu().sum(dim=1) - (own - 0.5).relu()) / (size - 1)
        terms.append((valid[b, i, s] * (repelled - teacher_valid[b, j, s, column] * own)).sum())
        count += float((valid[b, i, s] + 1e-10).sum())
    return torch.stack(terms).sum() / count
