"""`folder` and the inputs of `predict`: the user's own files, with all their oddities."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slotreel.data.image_io import write_image, write_labels
from slotreel.data.inputs import open_input
from slotreel.data.sources.folder import FolderVideos
from slotreel.data.sources.moving_shapes import MovingShapes
from slotreel.errors import ConfigError, DataError
from tests.datasets.helpers import CLIP, DAVIS


def frames(folder: Path, names: list[str], size: tuple[int, int] = (6, 8)) -> None:
    folder.mkdir(parents=True)
    for value, name in enumerate(names):
        write_image(folder / name, np.full((*size, 3), value, dtype=np.uint8))


def masks(folder: Path, names: list[str], size: tuple[int, int] = (6, 8)) -> None:
    folder.mkdir(parents=True)
    for value, name in enumerate(names):
        write_labels(folder / name, np.full(size, value + 1, dtype=np.uint8))


def test_frames_sort_naturally_and_masks_match_by_stem(tmp_path: Path) -> None:
    frames(tmp_path / "seq", ["f1.png", "f2.png", "f10.bmp"])
    masks(tmp_path / "Annotations" / "seq", ["f10.png", "f2.png"])
    (tmp_path / "seq" / ".hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    source = FolderVideos(str(tmp_path))
    assert len(source) == 1
    assert source.info(0) == ("seq", 3, (6, 8), ("f1", "f2", "f10"))
    clip = source.read(0, [2, 0, 1])
    assert clip.video[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert clip.labels is not None
    assert clip.labels[:, 0, 0].tolist() == [1, 255, 2]
    assert clip.annotated is not None
    assert clip.annotated.tolist() == [True, False, True]
    assert source.read(0, [0]).labels is not None


def test_masks_of_another_size_keep_it(tmp_path: Path) -> None:
    frames(tmp_path / "seq", ["0.png", "1.png"])
    masks(tmp_path / "Annotations" / "seq", ["1.png"], (12, 16))
    labels = FolderVideos(str(tmp_path)).read(0, [0, 1]).labels
    assert labels is not None
    assert labels.shape == (2, 12, 16)


def test_video_file_with_a_name_of_a_telephone(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "my video (1).mp4")
    masks(tmp_path / "Annotations" / "my video (1)", ["00000.png", "00007.png"], (90, 160))
    source = FolderVideos(str(tmp_path))
    assert source.info(0) == ("my video (1)", 12, (90, 160), ())
    clip = source.read(0, [7, 3])
    assert clip.labels is not None
    assert clip.labels[:, 0, 0].tolist() == [2, 255]


def test_video_and_folder_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "a.mp4")
    frames(tmp_path / "a", ["0.png"])
    source = FolderVideos(str(tmp_path))
    assert [source.info(i).id for i in range(2)] == ["a", "a.mp4"]
    clip = source.read(1, [0])
    assert (clip.labels, clip.annotated) == (None, None)


@pytest.mark.parametrize("resolution", ["480p", "other"])
def test_davis_layout(resolution: str) -> None:
    source = FolderVideos(str(DAVIS), include=["d*", "surf"], resolution=resolution)
    assert [source.info(i)[:3] for i in range(2)] == [
        ("dog", 8, (120, 213)),
        ("surf", 8, (120, 213)),
    ]
    labels = source.read(0, range(8)).labels
    assert labels is not None
    assert np.unique(labels).tolist() == [0, 1]


def test_splits_part_the_videos_by_name_alone(tmp_path: Path) -> None:
    for n in range(10):
        frames(tmp_path / f"v{n}", ["0.png"])

    def names(split: str, fraction: float = 0.3) -> list[str]:
        source = FolderVideos(str(tmp_path), split, fraction)
        return [source.info(i).id for i in range(len(source))]

    assert sorted(names("train") + names("validation")) == names("all")
    assert len(names("validation")) == 3
    assert len(names("validation", 0.001)) == 1
    assert len(names("train", 0.999)) == 1
    assert names("validation") == names("validation")


def test_a_single_video_serves_both_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames(tmp_path / "v", ["0.png"])
    with caplog.at_level(logging.WARNING):
        assert [len(FolderVideos(str(tmp_path), s)) for s in ("train", "validation")] == [1, 1]
    assert "only one video, v: train and validation both see it" in caplog.text


def test_black_and_white_masks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames(tmp_path / "v", ["0.png"])
    (tmp_path / "Annotations" / "v").mkdir(parents=True)
    white = np.zeros((6, 8), dtype=np.uint8)
    white[2:4] = 255
    write_labels(tmp_path / "Annotations" / "v" / "0.png", white)
    kept = FolderVideos(str(tmp_path)).read(0, [0]).labels
    assert np.array_equal(kept, white[None])
    assert "binary: true" in caplog.text
    merged = FolderVideos(str(tmp_path), binary=True).read(0, [0]).labels
    assert np.array_equal(merged, white[None] > 0)


def test_errors_say_what_to_type(tmp_path: Path) -> None:
    root = str(tmp_path)
    with pytest.raises(DataError, match=r"no folder .*nowhere: expected VIDEO.mp4.*paths.data="):
        FolderVideos(root + "/nowhere")
    with pytest.raises(DataError, match=r"no video in .*expected VIDEO.mp4"):
        FolderVideos(root)
    with pytest.raises(ConfigError, match=r"split=val: choose one of: train, validation, all"):
        FolderVideos(root, "val")
    with pytest.raises(ConfigError, match=r"validation_fraction=1: expected"):
        FolderVideos(root, validation_fraction=1)
    frames(tmp_path / "v", ["0.png"])
    with pytest.raises(DataError, match=r"include=\['w\*'\] matches no video .* it has v"):
        FolderVideos(root, include=["w*"])
    source = FolderVideos(root)
    with pytest.raises(IndexError, match=r"v has frames 0 to 0, asked for \[1\]"):
        source.read(0, [1])
    write_image(tmp_path / "v" / "1.png", np.zeros((9, 9, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"1.png is 9 x 9, but 0.png of the same video is 6 x 8"):
        FolderVideos(root).read(0, [0, 1])
    (tmp_path / "v" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0.png: .*damaged"):
        source.read(0, [0])


@pytest.mark.parametrize("form", ["png", "jpg", "mp4"])
def test_written_data_set_reads_back(
    tmp_path: Path, script: Callable[[str], ModuleType], form: str
) -> None:
    arguments = ["--num-videos", "2", "--num-frames", "3", "--image-size", "24", "--seed", "5"]
    arguments += ["--format", form, "--out", str(tmp_path / "out")]
    write = script("write_dataset")
    assert write.main(arguments) == 0
    written = FolderVideos(str(tmp_path / "out"))
    shapes = MovingShapes(num_videos=2, num_frames=3, image_size=24, seed=5)
    assert [written.info(i)[:3] for i in range(2)] == [shapes.info(i)[:3] for i in range(2)]
    for index in range(2):
        ours, theirs = written.read(index, [2, 0]), shapes.read(index, [2, 0])
        assert np.array_equal(ours.labels, theirs.labels)
        assert (form != "png") or np.array_equal(ours.video, theirs.video)
        assert np.abs(ours.video.astype(int) - theirs.video).mean() < 12
    assert write.main(arguments) == 1


def test_inputs_of_predict(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "my video [1].mp4")
    frames(tmp_path / "seq", ["f2.png", "f10.png"])
    for path, expected in {
        "my video [1].mp4": [("my video [1]", 12)],
        "seq": [("seq", 2)],
        ".": [("my video [1]", 12), ("seq", 2)],
        "*": [("my video [1]", 12), ("seq", 2)],
        "se?/*.png": [("seq", 2)],
    }.items():
        videos = open_input(str(tmp_path / path))
        assert [(video.name, video.info.num_frames) for video in videos] == expected, path
        for video in videos:
            shown = list(video.frames())
            assert len(shown) == video.info.num_frames
            assert shown[0].shape == (*video.info.size, 3)
    stills = list(open_input(str(tmp_path / "seq"))[0].frames())
    assert [still[0, 0, 0] for still in stills] == [0, 1]


def test_inputs_get_different_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        frames(tmp_path / folder / "x", ["0.png"])
    assert [video.name for video in open_input(str(tmp_path / "*" / "x"))] == ["x", "x-2"]


def test_inputs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no file or folder .*nothing"):
        open_input(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"notes.txt is neither a video nor holds any"):
        open_input(str(tmp_path / "notes.txt"))
    with pytest.raises(DataError, match=r"none of the 1 matches"):
        open_input(str(tmp_path / "*.txt"))
