"""Queries that start where the tokens are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.interfaces import Initializer
from slotreel.layers.checks import at_least
from slotreel.layers.precision import at_least_float32
from slotreel.noise import Noise
from slotreel.types import Dims, FrameFeatures, Hints


class KMeansInit(Initializer):
    """Centres of a k-means clustering of the frame's tokens.

    Source: Lloyd 1982, with the seeding of Arthur and Vassilvitskii 2007 (k-means++); as queries
    in OSC (arXiv:2203.05997), ``kmeans_euclidean``. Differs: OSC seeds with distinct positions
    that all images share and stops when centres rest; here the number of rounds is fixed. Gradient
    reaches the tokens through the last means, but not through the assignment.

    Args:
        dims: number of queries Q.
        num_iters: rounds of assignment and mean; a centre without tokens stays where it was.

    Shapes: tokens (B, N, D) -> query (B, Q, D).

    Raises:
        ConfigError: num_iters below 1.
        ValueError: fewer tokens than queries.
    """

    reads_hints = False

    def __init__(self, dims: Dims, num_iters: int = 10) -> None:
        super().__init__()
        at_least("initializer.num_iters", num_iters, 1, 10)
        self.num_queries, self.num_iters = dims.num_queries, num_iters

    def forward(
        self, tokens: Tensor, features: FrameFeatures, hints: Hints, batch_size: int, noise: Noise
    ) -> Tensor:
        """Centres of the tokens."""
        if tokens.shape[1] < self.num_queries:
            raise ValueError(
                f"k-means expects at least as many tokens as queries, got {tokens.shape[1]} tokens "
                f"for {self.num_queries} queries; type num_slots={tokens.shape[1]}"
            )
        points = at_least_float32(tokens)
        fixed = points.detach()
        draws = noise.uniform("initializer", (batch_size, self.num_queries), like=fixed)
        centres = seed_centres(fixed, draws)
        for _ in range(self.num_iters - 1):
            centres = mean_of_nearest(fixed, centres)
        return mean_of_nearest(points, centres)


def seed_centres(points: Tensor, draws: Tensor) -> Tensor:
    """k-means++: each further centre is a point drawn in proportion to its squared distance.

    Args:
        points: (B, N, D).
        draws: (B, Q) uniform in [0, 1), one per centre.

    Returns:
        Centres (B, Q, D), each one of the points.
    """
    weight = points.new_ones(points.shape[:2])
    chosen: list[Tensor] = []
    for draw in draws.split(1, dim=1):
        total = weight.sum(dim=1, keepdim=True)
        weight = torch.where(total > 0, weight, torch.ones_like(weight))  # all points are taken
        reach = weight.cumsum(dim=1)
        index = torch.searchsorted(reach, draw * reach[:, -1:], right=True)
        index = index.clamp(max=points.shape[1] - 1)
        centre = points.gather(1, index.unsqueeze(-1).expand(-1, -1, points.shape[2]))
        distance = (points - centre).square().sum(dim=-1)
        weight = torch.minimum(weight, distance) if chosen else distance
        chosen.append(centre)
    return torch.cat(chosen, dim=1)


def mean_of_nearest(points: Tensor, centres: Tensor) -> Tensor:
    """One Lloyd round: points (B, N, D) and centres (B, Q, D) -> new centres (B, Q, D)."""
    nearest = torch.cdist(points.detach(), centres).argmin(dim=-1)  # (B, N)
    member = F.one_hot(nearest, centres.shape[1]).to(points.dtype)
    count = member.sum(dim=1).unsqueeze(-1)  # (B, Q, 1)
    means = member.transpose(1, 2) @ points / count.clamp(min=1)
    return torch.where(count > 0, means, centres)
