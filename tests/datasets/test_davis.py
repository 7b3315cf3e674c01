"""DAVIS: labels of both years and layout errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from slotreel.data.image_io import read_labels, write_labels
from slotreel.data.sources.davis import Davis
from slotreel.errors import ConfigError, DataError
from tests.datasets.helpers import DAVIS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(DAVIS, tmp_path / "davis")
    return tmp_path / "davis"


def stems(count: int) -> tuple[str, ...]:
    return tuple(f"{n:05d}" for n in range(count))


def test_splits_and_labels() -> None:
    source = Davis(str(DAVIS), 2017, "val")
    assert [source.info(i) for i in range(3)] == [
        ("blackswan", 4, (480, 854), stems(4)),
        ("bmx-trees", 8, (120, 213), stems(8)),
        ("dog", 8, (120, 213), stems(8)),
    ]
    clip = source.read(2, [5, 1])
    assert (clip.video.shape, clip.video.dtype) == ((2, 120, 213, 3), np.uint8)
    assert clip.frames.tolist() == [5, 1]
    assert clip.annotated is not None
    assert clip.annotated.all()
    masks = [read_labels(DAVIS / "Annotations/480p/dog" / f"0000{n}.png") for n in (5, 1)]
    assert np.array_equal(clip.labels, np.stack(masks))
    assert [Davis(str(DAVIS), 2016, "train").info(0).id] == ["surf"]


def test_255_is_white_in_2016_and_void_in_2017(copy: Path) -> None:
    ids = np.zeros((120, 213), dtype=np.uint8)
    ids[:10], ids[10:20], ids[20:30] = 1, 2, 255
    write_labels(copy / "Annotations/480p/surf/00003.png", ids)
    kept = Davis(str(copy), 2017, "train").read(0, [3]).labels
    merged = Davis(str(copy), 2016, "train").read(0, [3]).labels
    assert np.array_equal(kept, ids[None])
    assert np.array_equal(merged, (ids > 0)[None])


def test_mask_of_another_size_keeps_it(copy: Path) -> None:
    for n in range(8):
        write_labels(copy / f"Annotations/480p/surf/0000{n}.png", np.ones((60, 100), np.uint8))
    clip = Davis(str(copy), 2017, "train").read(0, [0, 7])
    assert clip.labels is not None
    assert (clip.video.shape[1:3], clip.labels.shape[1:]) == ((120, 213), (60, 100))


def test_wrong_layouts_name_what_differs(copy: Path) -> None:
    root = str(copy)
    prepare = r".*prepare.py davis201[67] --root .* ARCHIVE"
    with pytest.raises(ConfigError, match="year=2018: expected 2016 or 2017"):
        Davis(root, 2018)
    with pytest.raises(ConfigError, match=r"split=vall: .*did you mean: val"):
        Davis(root, split="vall")
    with pytest.raises(ConfigError, match="belongs to year=2017"):
        Davis(root, 2016, annotations="Annotations_unsupervised")
    with pytest.raises(DataError, match="no folder .*Annotations_unsupervised/480p" + prepare):
        Davis(root, annotations="Annotations_unsupervised")
    with pytest.raises(DataError, match="no folder .*JPEGImages/1080p" + prepare):
        Davis(root, resolution="1080p")
    (copy / "JPEGImages/480p/dog/00004.jpg").unlink()
    with pytest.raises(DataError, match=r"dog has 7 frames .* but 8 masks .*partner: 00004.png"):
        Davis(root)
    shutil.rmtree(copy / "JPEGImages/480p/dog")
    with pytest.raises(DataError, match=r"480p/dog holds no frame"):
        Davis(root)
    (copy / "ImageSets/2017/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val.txt is empty"):
        Davis(root)
    shutil.rmtree(copy / "ImageSets/2017")
    with pytest.raises(DataError, match=r"no list .*2017/val.txt" + prepare):
        Davis(root)


def test_damaged_frame_is_named(copy: Path) -> None:
    path = copy / "JPEGImages/480p/surf/00002.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"surf/00002.jpg: .*damaged"):
        Davis(str(copy), split="train").read(0, [1, 2])


def test_mask_in_colours_is_found_on_opening(copy: Path) -> None:
    shutil.copy(copy / "JPEGImages/480p/dog/00007.jpg", copy / "Annotations/480p/dog/00007.png")
    with pytest.raises(DataError, match=r"dog/00007.png is a colour picture"):
        Davis(str(copy))
