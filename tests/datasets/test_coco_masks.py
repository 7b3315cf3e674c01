"""Masks of the COCO format against pycocotools, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from slotreel.data.coco_masks import PackedMasks, compact, pack, unpack
from tests.datasets import tiny_json

MASKS = arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)
)
POINTS = st.lists(
    st.tuples(st.floats(-4, 30).map(lambda x: round(x, 2)), st.floats(-4, 20)),
    min_size=3,
    max_size=8,
)


@given(MASKS)
def test_both_forms_of_runs_come_back(mask: np.ndarray) -> None:
    for form in (tiny_json.numbers, tiny_json.text):
        packed = pack(compact(form(mask)), mask.shape)
        assert packed == coco.encode(np.asfortranarray(mask))["counts"]
        assert np.array_equal(unpack(packed, mask.shape).T, mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(st.lists(POINTS, min_size=1, max_size=3))
def test_polygons_are_filled_as_pycocotools_does(parts: list[list[tuple[float, float]]]) -> None:
    flat = [[value for point in part for value in point] for part in parts]
    expected = coco.decode(coco.merge(coco.frPyObjects(flat, 18, 25)))
    assert np.array_equal(unpack(pack(flat, (18, 25)), (18, 25)).T, expected)


def test_runs_of_many_digits() -> None:
    """Written down from pycocotools 2.0.11: a 1000 x 700 mask, its left half but one pixel."""
    counts = b"1_ie:`ie:"
    mask = unpack(counts, (1000, 700)).T
    expected = np.zeros((1000, 700), dtype=bool)
    expected[:, :350] = True
    expected[0, 0] = False
    assert np.array_equal(mask, expected)


def test_pixels_of_two_masks_are_ignored_and_frames_do_not_mix() -> None:
    masks = PackedMasks()
    for label, place in ((1, tiny_json.LEFT), (2, tiny_json.RIGHT)):
        masks.add(label, pack(tiny_json.text(tiny_json.box(place)), tiny_json.SIZE))
    masks.end_frame()
    masks.end_frame()
    masks.add(9, pack(tiny_json.numbers(tiny_json.box(tiny_json.LEFT)), tiny_json.SIZE))
    masks.end_frame()
    left, right = (tiny_json.box(place) > 0 for place in (tiny_json.LEFT, tiny_json.RIGHT))
    expected = np.where(left & right, 255, left + 2 * right)
    assert np.array_equal(masks.labels(0, tiny_json.SIZE), expected)
    assert not masks.labels(1, tiny_json.SIZE).any()
    assert np.array_equal(masks.labels(2, tiny_json.SIZE), 9 * left)


SQUARE = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]
REFUSED: dict[str, tuple[Any, str]] = {
    "short runs": ({"size": [12, 16], "counts": [3, 2]}, "runs cover 5 pixels: expected 12 x 16"),
    "no runs": ({"size": [12, 16], "counts": []}, "runs cover 0 pixels"),
    "other size": ({"size": [16, 12], "counts": [192]}, "mask is 16 x 12: expected .* 12 x 16"),
    "negative": ({"size": [12, 16], "counts": [-1, 193]}, "is neither"),
    "no size": ({"counts": [192]}, "is neither"),
    "a word": ("mask", "is neither"),
    "a number": (5, "is neither"),
    "no polygon": ([], "there is no polygon"),
    "two points": ([[1.0, 2.0, 3.0, 4.0]], "a polygon has 4 numbers"),
    "odd": ([[*SQUARE, 1.0]], "a polygon has 7 numbers"),
    "far": ([[*SQUARE, 1e9, 1e9]], r"x from 0.0 to 1000000000.0, the frame has 16 pixels"),
    "not a number": ([[*SQUARE, 1.0, float("nan")]], "a polygon leaves the frame: y"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    segmentation, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        pack(segmentation, (12, 16))


@pytest.mark.parametrize("counts", [b"", b"\x00", b"~", b"`", b"`" * 9 + b"0", b"0" * 3 + b"@"])
def test_damaged_text(counts: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        unpack(counts, (12, 16))


@given(st.binary(max_size=12))
def test_any_text_gives_a_whole_mask_or_an_error(counts: bytes) -> None:
    with suppress(ValueError):
        assert unpack(counts, (3, 4)).shape == (4, 3)
