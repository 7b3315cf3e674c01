"""From labelled frames to the labels of the next: soft labels gathered by feature similarity.

h w grid, E width of the features, C label channels, c targets of a tile, S sources of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from slotreel.layers.checks import at_least, one_of, positive

Ties = Literal["keep", "cut"]
Window = Literal["square", "disk"]
Tile = tuple[slice, slice]  # rows and columns of the grid


class Source(NamedTuple):
    """A frame that labels are taken from."""

    features: Tensor  # (h, w, E) of unit length
    labels: Tensor  # (h, w, C) soft


@dataclass(frozen=True)
class Affinity:
    """Labels of a frame from those of others: of the ``top_k`` most similar positions, weighted.

    Weights are ``softmax(cosine / temperature)`` over the positions kept, those of all frames
    together. Sources outside the window of a target have no weight.

    Source: Caron et al. 2021 (DINO, arXiv:2104.14294), section 4.2.2; Jabri et al. 2020 (CRW,
    arXiv:2006.14613), section 4; the exact rules are those of their evaluation programs.
    Differs: the grid is worked through in square tiles, each with the box of sources its windows
    can reach. The result is the same up to the rounding of sums.

    Args:
        top_k: sources kept per target.
        ties: ``keep`` every source as similar as the k-th (DINO), or ``cut`` after exactly k (CRW).
        temperature: divides the cosine.
        radius: reach of the window, cells; None looks everywhere.
        window: ``square``: rows and columns differ by at most the radius; ``disk``: Euclidean
            distance below the radius.
        window_first: whether the window also holds for the first frame that is kept for good.
        max_entries: similarities computed at a time; bounds memory (four bytes each, in a few
            copies) and changes nothing else.

    Raises:
        ConfigError: an unknown word, or a number out of range.
    """

    top_k: int
    ties: Ties
    temperature: float
    radius: float | None
    window: Window
    window_first: bool
    max_entries: int

    def __post_init__(self) -> None:
        at_least("propagation.top_k", self.top_k, 1, 5)
        one_of("propagation.ties", self.ties, get_args(Ties))
        positive("propagation.temperature", self.temperature, 0.1)
        one_of("propagation.window", self.window, get_args(Window))
        at_least("propagation.max_entries", self.max_entries, 1, 2**22)
        if self.radius is not None:
            # a disk is strict, so with radius 0 not even the same position would be left
            positive("propagation.radius", self.radius, 12)

    def gather(self, target: Tensor, first: Source | None, recent: Sequence[Source]) -> Tensor:
        """Labels of a frame.

        Args:
            target: features (h, w, E) of unit length.
            first: the first frame of the video, where it is kept for good.
            recent: other frames, oldest first; a frame may occur more than once.

        Returns:
            (h, w, C); sums to 1 over C where the labels of the sources do.
        """
        open_first = first is not None and not self.window_first
        sources = [(source, True) for source in recent]
        if first is not None:
            sources.insert(0, (first, not open_first))
        grid = (target.shape[0], target.shape[1])
        labels = target.new_empty(*grid, sources[0][0].labels.shape[-1])
        for tile in self._tiles(grid, len(sources) - open_first, int(open_first)):
            gathered = self._gather_tile(target[tile].flatten(0, 1), tile, grid, sources)
            labels[tile] = gathered.view(*labels[tile].shape)
        return labels

    def _gather_tile(
        self, query: Tensor, tile: Tile, grid: tuple[int, int], sources: list[tuple[Source, bool]]
    ) -> Tensor:
        """Labels (c, C) of the targets (c, E) of a tile."""
        box = self._box(tile, grid)
        outside = self._outside(tile, box, query.device)
        logits, labels = [], []
        for source, windowed in sources:
            place = box if windowed else _everywhere(grid)
            similar = query @ source.features[place].flatten(0, 1).T  # (c, S)
            if windowed and outside is not None:
                similar.masked_fill_(outside, -math.inf)
            logits.append(similar)
            labels.append(source.labels[place].flatten(0, 1))
        return self._weights(torch.cat(logits, 1).div_(self.temperature)) @ torch.cat(labels)

    def _weights(self, logits: Tensor) -> Tensor:
        """Logits (c, S) -> weights (c, S), 0 beyond the ``top_k``."""
        best, index = logits.topk(min(self.top_k, logits.shape[1]), dim=1)
        if self.ties == "cut":
            return torch.zeros_like(logits).scatter_(1, index, best.softmax(1))
        return logits.masked_fill_(logits < best[:, -1:], -math.inf).softmax(1)

    def _tiles(self, grid: tuple[int, int], num_windowed: int, num_open: int) -> Iterator[Tile]:
        """Squares that cover the grid, small enough for ``max_entries`` (one cell at least)."""
        side = max(grid)
        while side > 1 and self._entries(side, grid, num_windowed, num_open) > self.max_entries:
            side = math.ceil(side / 2)
        for top in range(0, grid[0], side):
            for left in range(0, grid[1], side):
                yield slice(top, min(top + side, grid[0])), slice(left, min(left + side, grid[1]))

    def _entries(self, side: int, grid: tuple[int, int], num_windowed: int, num_open: int) -> int:
        """Similarities of a tile of that side."""
        tile = [min(side, length) for length in grid]
        reach = max(grid) if self.radius is None else int(self.radius)
        box = [min(a + 2 * reach, length) for a, length in zip(tile, grid, strict=True)]
        return math.prod(tile) * (num_windowed * math.prod(box) + num_open * math.prod(grid))

    def _box(self, tile: Tile, grid: tuple[int, int]) -> Tile:
        """Sources that any target of the tile may see."""
        if self.radius is None:
            return _everywhere(grid)
        rows, columns = tile
        reach = int(self.radius)
        return (
            slice(max(rows.start - reach, 0), min(rows.stop + reach, grid[0])),
            slice(max(columns.start - reach, 0), min(columns.stop + reach, grid[1])),
        )

    def _outside(self, tile: Tile, box: Tile, device: torch.device) -> Tensor | None:
        """Which sources of the box (S) are outside the window of which targets (c): bool (c, S)."""
        if self.radius is None:
            return None
        rows, columns = (
            (_range(a, device)[:, None] - _range(b, device)).abs()
            for a, b in zip(tile, box, strict=True)
        )
        dy, dx = rows[:, None, :, None], columns[None, :, None, :]
        if self.window == "square":
            outside = (dy > self.radius) | (dx > self.radius)
        else:
            outside = dy**2 + dx**2 >= self.radius**2
        return outside.flatten(2).flatten(0, 1)


def _everywhere(grid: tuple[int, int]) -> Tile:
    return slice(0, grid[0]), slice(0, grid[1])


def _range(part: slice, device: torch.device) -> Tensor:
    return torch.arange(part.start, part.stop, device=device)
