"""Best one-to-one assignments of many small score matrices at once."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from slotreel.layers.precision import at_least_float32

MOST_ENUMERATED = 4  # rows; 24 permutations


def best_assignment(score: Tensor) -> Tensor:
    """For each matrix the permutation with the largest sum of scores.

    All problems are solved together on their device: up to four rows by trying every permutation,
    more rows by shortest augmenting paths (Hungarian method) with one step of all problems at a
    time.

    Where several permutations are best: up to four rows, the first in lexicographic order among
    those with the largest sum as computed, added up row by row; beyond, the one SciPy's
    ``linear_sum_assignment(score, maximize=True)`` returns, whose steps and ties are repeated in
    float64. A constant score gives 0, 1, 2, ... in both.

    Source: Crouse 2016, "On implementing 2D rectangular assignment algorithms", for the second
    way. Differs: square matrices only, many at once.

    Args:
        score: (..., P, P) of finite numbers; no gradient passes.

    Returns:
        (..., P) int64: the column of each row.

    Raises:
        ValueError: matrices that are not square.
    """
    rows, columns = score.shape[-2:]
    if rows != columns:
        raise ValueError(
            f"best_assignment expects square matrices (..., P, P), got {tuple(score.shape)}"
        )
    flat = score.detach().reshape(-1, rows, rows)
    solve = _enumerate if rows <= MOST_ENUMERATED else _augment
    return solve(flat).reshape(score.shape[:-1])


@cache
def _permutations(size: int) -> Tensor:
    return torch.tensor(list(permutations(range(size))))  # (size!, size), in lexicographic order


def _enumerate(score: Tensor) -> Tensor:
    size = score.shape[-1]
    orders = _permutations(size).to(score.device)
    score = at_least_float32(score)
    totals = score.new_zeros(len(score), len(orders))
    for row in range(size):
        totals += score[:, row, orders[:, row]]
    return orders[totals.argmax(dim=-1)]


class _Duals(NamedTuple):
    """What is known of n problems while rows are assigned one after another."""

    cost: Tensor  # (n, P, P)
    of_row: Tensor  # (n, P) potential of each row
    of_column: Tensor  # (n, P)
    column: Tensor  # (n, P) column of each row, -1 = none yet
    row: Tensor  # (n, P) row of each column


class _Paths(NamedTuple):
    """Shortest paths from one free row of each problem to its nearest free column."""

    distance: Tensor  # (n, P) of each column
    parent: Tensor  # (n, P) row before each column
    scanned: Tensor  # (n, P) columns whose distance is final
    length: Tensor  # (n,) of the path
    end: Tensor  # (n,) its free column


def _augment(score: Tensor) -> Tensor:
    # Loops run over the rows and steps of a problem, never over problems. On a CPU a loop over
    # SciPy is faster (2048 problems of 8 rows: by a factor of 4); the gain is to stay on a GPU.
    device = torch.device("cpu") if score.device.type == "mps" else score.device  # no float64 there
    cost = -score.to(device, torch.float64)
    count, size = cost.shape[:2]
    nobody = torch.full((count, size), -1, device=device)
    zero = cost.new_zeros(count, size)
    known = _Duals(cost, zero, zero.clone(), nobody, nobody.clone())
    for current in range(size):
        found = _search(known, current)
        _update_potentials(known, found, current)
        _assign(known, found, current)
    return known.column.to(score.device)


def _search(known: _Duals, current: int) -> _Paths:
    count, size = known.row.shape
    found = _Paths(
        distance=torch.full_like(known.of_row, torch.inf),
        parent=torch.full_like(known.row, -1),
        scanned=torch.zeros_like(known.row, dtype=torch.bool),
        length=known.of_row.new_zeros(count),
        end=known.row.new_zeros(count),
    )
    problem = torch.arange(count, device=known.row.device)  # those whose path is not complete
    state: tuple[Tensor, ...] = (problem, torch.full_like(problem, current), *found[:4])
    # Place of each column in the list that is searched: SciPy fills it backwards and closes a gap
    # with its last entry.
    place = torch.arange(size - 1, -1, -1, device=problem.device).repeat(count, 1)
    for last in range(size - 1, size - current - 2, -1):
        problem, row, distance, parent, scanned, length = state
        potential = known.of_row[problem, row][:, None] + known.of_column[problem]
        through = length[:, None] + known.cost[problem, row] - potential
        nearer = ~scanned & (through < distance)
        distance = torch.where(nearer, through, distance)
        parent = torch.where(nearer, row[:, None], parent)
        owners = known.row[problem]
        column = _nearest_column(distance, scanned, owners, place)[:, None]
        length, owner = distance.gather(1, column)[:, 0], owners.gather(1, column)[:, 0]
        scanned = scanned.scatter(1, column, True)
        place = torch.where(place == last, place.gather(1, column), place)
        done, search = owner < 0, owner >= 0
        for whole, part in zip(
            found, (distance, parent, scanned, length, column[:, 0]), strict=True
        ):
            whole[problem[done]] = part[done]
        state = tuple(x[search] for x in (problem, owner, distance, parent, scanned, length))
        place = place[search]
        if not len(place):
            break
    return found


def _nearest_column(distance: Tensor, scanned: Tensor, owner: Tensor, place: Tensor) -> Tensor:
    """The nearest open column (n,): of equals the last free one in the list, else the first."""
    size = distance.shape[1]
    reach = distance.masked_fill(scanned, torch.inf)
    nearest = ~scanned & (reach == reach.amin(dim=1, keepdim=True))
    free = nearest & (owner < 0)
    rank = torch.where(free, 2 * size + place, size - place)
    return rank.masked_fill(~nearest, -1).argmax(dim=1)


def _update_potentials(known: _Duals, found: _Paths, current: int) -> None:
    slack = torch.where(found.scanned, found.length[:, None] - found.distance, 0.0)
    # Rows in the tree are the current one and the owners of scanned columns.
    owned = found.scanned & (known.row >= 0)
    known.of_row.scatter_add_(1, known.row.clamp_min(0), torch.where(owned, slack, 0.0))
    known.of_row[:, current] += found.length
    known.of_column.sub_(slack)


def _assign(known: _Duals, found: _Paths, current: int) -> None:
    """Flip each path from its free column back to the current row."""
    column = found.end
    problem = torch.arange(len(column), device=column.device)
    while len(problem):
        row = found.parent[problem, column]
        following = known.column[problem, row]
        known.row[problem, column], known.column[problem, row] = row, column
        more = row != current
        problem, column = problem[more], following[more]
