"""Pictures of a frame after the model: colours over it, beside it, or one cell per slot.

H W pixels of a frame, h w of a cell, K slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from slotreel.colours import COLOURS, overlay
from slotreel.types import Prediction

Draw = Callable[[np.ndarray, np.ndarray, Prediction], np.ndarray]

LARGEST_PX = 1600  # of a grid of cells, across and down
SMALLEST_PX = 96  # shorter side up to which small frames are enlarged by a whole factor
BORDER_PX, CAPTION_PX = 3, 14
ASPECT = 16 / 9  # that a grid of cells comes near to
DIM = 0.15  # brightness where a slot has nothing


def make_view(name: str, num_slots: int, largest: int = LARGEST_PX) -> Draw:
    """What draws a view of one video: (frame, labels, prediction) -> picture uint8 (., ., 3).

    Frames are uint8 (H, W, 3) and labels uint8 (H, W). ``overlay`` and ``side_by_side`` keep the
    size of the frame.

    Args:
        name: one of ``VIEWS``.
        num_slots: cells of ``slots`` for models that predict labels without soft masks.
        largest: most pixels of ``slots`` across and down.
    """
    return VIEWS[name](num_slots, largest)


def _side_by_side(frame: np.ndarray, labels: np.ndarray, prediction: Prediction) -> np.ndarray:
    return np.concatenate([frame, overlay(frame, labels)], axis=1)


class Grid(NamedTuple):
    """Where the cells of a picture go."""

    cell: tuple[int, int]  # (h, w)
    columns: int
    rows: int

    @property
    def step(self) -> tuple[int, int]:
        """From one cell to the next, pixels down and right."""
        return self.cell[0] + 2 * BORDER_PX + CAPTION_PX, self.cell[1] + 2 * BORDER_PX

    def corner(self, number: int) -> tuple[int, int]:
        """Top left pixel (row, column) of a cell."""
        row, column = divmod(number, self.columns)
        return row * self.step[0] + CAPTION_PX + BORDER_PX, column * self.step[1] + BORDER_PX


def arrange(num_cells: int, frame: tuple[int, int], largest: int = LARGEST_PX) -> Grid:
    """The grid whose picture comes nearest to ``ASPECT``.

    Args:
        num_cells: how many cells.
        frame: (H, W) of the frames.
        largest: most pixels across and down.
    """
    height, width = frame
    columns = math.sqrt(num_cells * ASPECT * height / width)
    columns = max(1, min(num_cells, round(columns)))
    rows = math.ceil(num_cells / columns)
    scale = min(
        (largest / columns - 2 * BORDER_PX) / width,
        (largest / rows - 2 * BORDER_PX - CAPTION_PX) / height,
    )
    if scale >= 1:
        scale = min(int(scale), math.ceil(SMALLEST_PX / min(height, width)))
    return Grid((max(1, int(height * scale)), max(1, int(width * scale))), columns, rows)


class SlotCells:
    """The original and one cell per slot: the frame, dark where the slot's soft mask is low.

    Borders have the slots' colours in overlays, also that of a slot dropped as background.
    Captions count slots from 0; models that predict labels, or a background of their own
    (propagation), have captions with the labels.

    Args:
        num_slots: K, for predictions without soft masks.
        largest: most pixels across and down.
    """

    def __init__(self, num_slots: int, largest: int = LARGEST_PX) -> None:
        self.num_slots, self.largest = num_slots, largest
        self._grid: Grid | None = None
        self._page: np.ndarray | None = None  # captions and borders, the same for all frames

    def __call__(self, frame: np.ndarray, labels: np.ndarray, prediction: Prediction) -> np.ndarray:
        """The picture of one frame."""
        if self._grid is None or self._page is None:
            if prediction.masks is not None:
                self.num_slots = len(prediction.masks)
            size = (frame.shape[0], frame.shape[1])
            self._grid = arrange(self.num_slots + 1, size, self.largest)
            self._page = _page(self._grid, self._captions(prediction))
        height, width = self._grid.cell
        small = _resized(frame, (height, width))
        light = DIM + (1 - DIM) * self._soft(prediction, (height, width))
        cells = [small, *(small * light[..., None]).astype(np.uint8)]
        picture = self._page.copy()
        for number, cell in enumerate(cells):
            top, left = self._grid.corner(number)
            picture[top : top + height, left : left + width] = cell
        return picture

    def _captions(self, prediction: Prediction) -> list[tuple[str, int]]:
        """What stands above each slot's cell, and the slot's label."""
        first = prediction.first_label
        if prediction.masks is not None and first == 1:
            return [(f"slot {i}", i + 1) for i in range(self.num_slots)]
        return [(f"label {i}", i) for i in range(first, first + self.num_slots)]

    def _soft(self, prediction: Prediction, size: tuple[int, int]) -> np.ndarray:
        """Masks float32 (K, h, w) in [0, 1]."""
        if prediction.masks is not None:
            masks = prediction.masks[None].float().cpu()
            masks = F.interpolate(masks, size, mode="bilinear", align_corners=False)[0]
            soft: np.ndarray = masks.clamp(0, 1).numpy()
            return soft
        assert prediction.labels is not None
        picture = Image.fromarray(np.ascontiguousarray(prediction.labels))
        labels = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.NEAREST))
        slots = np.arange(self.num_slots) + prediction.first_label
        return (labels == slots[:, None, None]).astype(np.float32)


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resample = Image.Resampling.NEAREST if size[0] > frame.shape[0] else Image.Resampling.BOX
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), resample))


def _page(grid: Grid, captions: list[tuple[str, int]]) -> np.ndarray:
    """Captions and coloured borders of all cells, uint8."""
    height, width = grid.step
    canvas = Image.new("RGB", (grid.columns * width, grid.rows * height), (16, 16, 18))
    draw = ImageDraw.Draw(canvas)
    cells = [("original", (128, 128, 128))]
    cells += [(caption, tuple(COLOURS[label].tolist())) for caption, label in captions]
    for number, (caption, colour) in enumerate(cells):
        top, left = (corner - BORDER_PX for corner in grid.corner(number))
        draw.rectangle(
            (left, top, left + width - 1, top + height - CAPTION_PX - 1),
            outline=colour,
            width=BORDER_PX,
        )
        font = ImageFont.load_default(size=11)
        draw.text((left + BORDER_PX, top - CAPTION_PX), caption, (220, 220, 220), font)
    return np.asarray(canvas)


VIEWS: dict[str, Callable[[int, int], Draw]] = {
    "overlay": lambda *_: lambda frame, labels, prediction: overlay(frame, labels),
    "side_by_side": lambda *_: _side_by_side,
    "slots": SlotCells,
}
