"""Pictures of a frame: sizes, colours, what is dimmed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotreel.colours import COLOURS, overlay
from slotreel.inference.views import (
    BORDER_PX,
    DIM,
    LARGEST_PX,
    SMALLEST_PX,
    VIEWS,
    SlotCells,
    arrange,
    make_view,
)
from slotreel.types import Prediction

FRAME = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
LABELS = np.repeat(np.array([1, 2, 3], np.uint8), [40, 40, 51])[None].repeat(97, 0)


def soft(labels: np.ndarray = LABELS) -> Prediction:
    return Prediction(0, masks=torch.from_numpy(labels == np.arange(1, 4)[:, None, None]).half())


def test_overlay_and_side_by_side_keep_the_size() -> None:
    over = make_view("overlay", 3)(FRAME, LABELS, soft())
    assert np.array_equal(over, overlay(FRAME, LABELS))
    both = make_view("side_by_side", 3)(FRAME, LABELS, soft())
    assert np.array_equal(both, np.concatenate([FRAME, over], axis=1))


@given(
    num_cells=st.integers(1, 255),
    height=st.integers(1, 3000),
    width=st.integers(1, 4000),
    largest=st.sampled_from([400, LARGEST_PX]),
)
def test_law_every_cell_fits_beside_the_others(
    num_cells: int, height: int, width: int, largest: int
) -> None:
    grid = arrange(num_cells, (height, width), largest)
    assert grid.columns * grid.rows >= num_cells > grid.columns * (grid.rows - 1)
    assert min(grid.cell) >= 1
    smallest_page = 30 * max(grid.columns, grid.rows)  # borders and captions of cells of 1 pixel
    assert grid.step[1] * grid.columns <= max(largest, smallest_page)
    assert grid.step[0] * grid.rows <= max(largest, smallest_page)
    if min(grid.cell) >= 40:
        assert grid.cell[1] / grid.cell[0] == pytest.approx(width / height, rel=0.05)


def test_small_frames_are_enlarged_by_a_whole_factor() -> None:
    assert arrange(4, (64, 64)).cell == (128, 128)
    assert arrange(4, (1, 1)).cell == (SMALLEST_PX, SMALLEST_PX)
    assert arrange(4, (120, 200)).cell == (120, 200)


@pytest.mark.parametrize("hard", [False, True])
def test_cells_show_the_frame_where_the_slot_is_and_dim_the_rest(hard: bool) -> None:
    prediction = Prediction(0, labels=LABELS) if hard else soft()
    picture = SlotCells(3)(FRAME, LABELS, prediction)
    grid = arrange(4, (97, 131))
    assert grid.cell == (97, 131)
    for number in range(4):
        top, left = grid.corner(number)
        cell = picture[top : top + 97, left : left + 131]
        lit = np.ones_like(LABELS, dtype=bool) if number == 0 else number == LABELS
        assert np.array_equal(cell[lit], FRAME[lit])
        assert np.array_equal(cell[~lit], (FRAME[~lit] * np.float32(DIM)).astype(np.uint8))
        if number:
            assert (picture[top - 1, left : left + 131] == COLOURS[number]).all()
            assert (picture[top + 97 + BORDER_PX - 1, left] == COLOURS[number]).all()


def test_half_a_mask_is_half_as_bright() -> None:
    grey = np.full((100, 100, 3), 200, dtype=np.uint8)
    picture = SlotCells(1)(grey, LABELS, Prediction(0, masks=torch.full((1, 5, 5), 0.5)))
    top, left = arrange(2, (100, 100)).corner(1)
    assert picture[top + 50, left + 50, 0] == pytest.approx(200 * (DIM + (1 - DIM) / 2), abs=1)


def test_as_many_cells_as_the_model_has_slots() -> None:
    """K comes from the soft masks, whatever the configuration says, and stays."""
    cells = SlotCells(2)
    first = cells(FRAME, LABELS, Prediction(0, masks=torch.rand(9, 4, 4)))
    assert arrange(10, (97, 131)).step[0] * arrange(10, (97, 131)).rows == first.shape[0]
    assert cells(FRAME, LABELS, Prediction(1, masks=torch.rand(9, 4, 4))).shape == first.shape


def test_labels_that_begin_at_0_have_the_colours_of_labels() -> None:
    prediction = Prediction(0, masks=torch.rand(2, 4, 4), first_label=0)
    picture = SlotCells(2)(FRAME, LABELS, prediction)
    grid = arrange(3, (97, 131))
    for number, label in ((1, 0), (2, 1)):
        top, left = grid.corner(number)
        assert (picture[top - 1, left] == COLOURS[label]).all()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_any_size(view: str, size: tuple[int, int]) -> None:
    frame, labels = np.zeros((*size, 3), np.uint8), np.ones(size, np.uint8)
    picture = make_view(view, 3)(frame, labels, Prediction(0, labels=labels))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
