"""Pictures and masks: palette, round trip, damaged and odd files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotreel.data.image_io import (
    davis_palette,
    image_size,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from slotreel.errors import DataError
from tests.datasets.helpers import DAVIS

FRAME = DAVIS / "JPEGImages" / "480p" / "dog" / "00000.jpg"


def test_palette_is_that_of_voc() -> None:
    palette = davis_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128),
             8: (64, 0, 0), 21: (128, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    assert {i: tuple(palette[i].tolist()) for i in known} == known
    assert len(np.unique(palette, axis=0)) == 256


def test_labels_round_trip_with_all_ids(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_labels(tmp_path / "a.png", labels)
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image.convert("RGB")), davis_palette()[labels])


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_and_one_bit_masks(tmp_path: Path, mode: str) -> None:
    labels = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    if mode == "1":
        Image.fromarray(labels * 255).convert("1").save(tmp_path / "a.png")
    else:
        Image.fromarray(labels.astype(np.uint16 if mode == "I;16" else np.uint8)).save(
            tmp_path / "a.png"
        )
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


def test_masks_that_cannot_be_ids(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"rgb.png is a colour picture.*one id per pixel"):
        read_labels(tmp_path / "rgb.png")
    Image.fromarray(np.full((2, 2), 1000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png holds ids from 1000 to 1000"):
        read_labels(tmp_path / "deep.png")
    many = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Image.fromarray(many).save(tmp_path / "many.png")
    with pytest.raises(DataError, match=r"many.png holds ids from 0 to 299: expected 0 .* to 254"):
        read_labels(tmp_path / "many.png")
    for mode in ("RGBA", "LA"):
        Image.new(mode, (4, 4)).save(tmp_path / "alpha.png")
        with pytest.raises(DataError, match=rf"alpha.png has an alpha channel \(mode {mode}\)"):
            read_labels(tmp_path / "alpha.png")
    with pytest.raises(ValueError, match=r"uint8 \(H, W\), got int64"):
        write_labels(tmp_path / "x.png", np.zeros((2, 2), dtype=np.int64))


def test_jpeg_agrees_with_another_decoder() -> None:
    ours = read_image(FRAME).astype(int)
    with Image.open(FRAME) as image:
        theirs = np.array(image.convert("RGB")).astype(int)
    assert ours.shape == (*image_size(FRAME), 3)
    assert np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_lossless_pictures_round_trip(tmp_path: Path, name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_image(tmp_path / name, image)
    assert np.array_equal(read_image(tmp_path / name), image)


def test_without_torchvision_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_image(FRAME).astype(int)
    monkeypatch.delattr("torchvision.io.decode_image")
    assert np.abs(read_image(FRAME) - before).max() <= 2


def test_odd_pictures_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (3, 2), 9).save(tmp_path / "grey.png")
    Image.new("CMYK", (3, 2)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((2, 3), 7 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "grey.png") == 9).all()
    for name in ("cmyk.jpg", "deep.png"):
        image = read_image(tmp_path / name)
        assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    assert (read_image(tmp_path / "deep.png") == 7).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_dropped(tmp_path: Path, mode: str, alpha: int) -> None:
    colour = (10, 20, 30, alpha) if mode == "RGBA" else (10, alpha)
    Image.new(mode, (3, 2), colour).save(tmp_path / "a.png")
    expected = colour[:3] if mode == "RGBA" else (10, 10, 10)
    assert read_image(tmp_path / "a.png").tolist() == [[list(expected)] * 3] * 2


@pytest.mark.parametrize("read", [read_image, read_labels, image_size])
def test_missing_empty_and_foreign_files(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    reasons = {"no.jpg": "no such file", "empty.jpg": "0 bytes", "text.jpg": "damaged"}
    for name, why in reasons.items():
        with pytest.raises(DataError, match=rf"{name}: .*{why}"):
            read(tmp_path / name)


def test_cut_off_picture(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(FRAME.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut.jpg: .*damaged"):
        read_image(tmp_path / "cut.jpg")
    write_labels(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut.png: .*damaged"):
        read_labels(tmp_path / "cut.png")
