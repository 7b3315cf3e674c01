"""Sources of public data sets on miniatures: labels, what is annotated, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from slotreel.data.image_io import IGNORE
from slotreel.data.sources.davis import Davis
from slotreel.data.sources.fbms59 import Fbms59
from slotreel.data.sources.folder import FolderVideos
from slotreel.data.sources.jhmdb import Jhmdb
from slotreel.data.sources.mixed import MixedVideos
from slotreel.data.sources.segtrack_v2 import SEQUENCES, SegTrackV2
from slotreel.data.sources.vip import Vip
from slotreel.data.sources.ytvos import YouTubeVos
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip
from tests.datasets import tiny

SOURCES: dict[str, Callable[[str], VideoSource]] = {
    "segtrack_v2": SegTrackV2, "fbms59": Fbms59, "jhmdb": Jhmdb, "vip": Vip, "ytvos": YouTubeVos,
    "davis2016": lambda root: Davis(root, 2016), "davis2017": Davis,
}  # fmt: skip


def labels_of(clip: RawClip) -> np.ndarray:
    assert clip.labels is not None
    assert clip.labels.dtype == np.uint8
    return clip.labels


def annotated(clip: RawClip) -> list[bool]:
    assert clip.annotated is not None
    assert clip.annotated.dtype == bool
    return clip.annotated.tolist()


def test_segtrack_matches_by_order_and_merges(tmp_path: Path) -> None:
    root = str(tiny.segtrack_v2(tmp_path))
    source = SegTrackV2(root)
    assert [source.info(i).id for i in range(14)] == list(SEQUENCES)
    assert source.info(2) == ("bmx", 3, tiny.SIZE, ("bmx_2", "bmx_9", "bmx_10"))
    clip = source.read(2, [2, 0])
    assert clip.video[:, 0, 0, 0].tolist() == [10, 2]
    assert annotated(clip) == [True, True]
    assert labels_of(clip)[0, 0].tolist() == [1] * 10 + [0] * 6
    apart = SegTrackV2(root, ["worm", "bmx"], merge=False)
    assert [apart.info(i).id for i in range(2)] == ["worm", "bmx"]
    row = labels_of(apart.read(1, [1]))[0, 0].tolist()
    assert row == [1] * 4 + [IGNORE] * 2 + [2] * 4 + [0] * 6
    assert labels_of(apart.read(0, [1]))[0, 0].tolist() == [1] * 6 + [0] * 10


def test_segtrack_says_what_is_missing(tmp_path: Path) -> None:
    tiny.segtrack_v2(tmp_path, ["bmx", "girl"])
    with pytest.raises(ConfigError, match=r"sequences: gril is none of 14; did you mean: girl"):
        SegTrackV2(str(tmp_path), ["gril"])
    expected = r"1 of 2 sequences are there, without worm; .*type .*sequences=\[girl\]"
    with pytest.raises(DataError, match=expected):
        SegTrackV2(str(tmp_path), ["girl", "worm"])
    (tmp_path / "GroundTruth" / "bmx" / "2" / "gt0009.png").unlink()
    with pytest.raises(DataError, match=r"bmx has 3 frames in .* but 2 masks in .*bmx/2"):
        SegTrackV2(str(tmp_path), ["bmx"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_fbms_codes_become_labels_of_the_frames_they_belong_to(tmp_path: Path, split: str) -> None:
    root = str(tiny.fbms59(tmp_path))
    source = Fbms59(root, split, merge=False)
    assert [source.info(i)[:3] for i in range(2)] == [
        ("bear01", 25, (10, 14)),
        ("cars1", 25, tiny.SIZE),
    ]
    bear, cars = (source.read(i, [0, 1, 20]) for i in range(2))
    assert annotated(bear) == annotated(cars) == [True, False, True]
    assert (labels_of(cars)[1] == IGNORE).all()
    assert labels_of(cars)[2, 5].tolist() == [0] * 4 + [1] * 4 + [0] + [2] * 3 + [0] * 4
    assert labels_of(bear)[0, :, 4].tolist() == [0] * 3 + [1] * 2 + [0] + [2] * 2 + [0] * 2
    merged = Fbms59(root, split)
    assert np.array_equal(labels_of(merged.read(1, [20]))[0], labels_of(cars)[2] > 0)
    assert annotated(merged.read(1, [3, 4])) == [False, False]


def test_fbms_background_is_an_argument_and_the_definition_file_decides(tmp_path: Path) -> None:
    truth = tiny.fbms59(tmp_path) / "Trainingset" / "cars1" / "GroundTruth"

    def share(code: str) -> float:
        return float((labels_of(Fbms59(str(tmp_path), background=code).read(1, [0])) > 0).mean())

    objects = (4 * 4 + 4 * 3) / (12 * 16)
    assert share("zero") == share("auto") == pytest.approx(objects)
    assert share("largest") == pytest.approx(1 - 4 * 3 / (12 * 16))
    (truth / "def.dat").write_text(
        "Ground truth definition file; do not change!\n\nTotal number of regions:\n2\n"
        "Scale of region 0:\n90\nScale of region 1:\n0\n\nConfusion penality matrix:\n0 1\n1 0\n"
        "Total number of frames in this shot:\n25\n"
    )
    assert share("auto") == pytest.approx(1 - objects)  # 90 is background, and 200 is not listed
    (truth / "def.dat").write_text("something else")
    assert share("auto") == pytest.approx(objects)
    with pytest.raises(ConfigError, match=r"background=white: "):
        Fbms59(str(tmp_path), background="white")


def test_fbms_annotation_beyond_the_frames(tmp_path: Path) -> None:
    folder = tiny.fbms59(tmp_path) / "Testset" / "cars1"
    (folder / "GroundTruth" / "cars1_21.pgm").rename(folder / "GroundTruth" / "cars1_41.pgm")
    with pytest.raises(DataError, match=r"cars1_41.pgm would belong to frame 40, .*25 frames"):
        Fbms59(str(tmp_path), "test")
    shutil.rmtree(folder / "GroundTruth")
    with pytest.raises(DataError, match=r"cars1 has 25 frames in .* and 0 annotations"):
        Fbms59(str(tmp_path), "test")


def test_jhmdb_joints_count_pixels_from_zero(tmp_path: Path) -> None:
    root = str(tiny.jhmdb(tmp_path))
    source = Jhmdb(root, "test")
    assert source.info(0) == ("clap-a_clap_(x)_1", 3, tiny.SIZE, ("00001", "00002", "00003"))
    assert Jhmdb(root, "train").info(0).id == Jhmdb(root, "test", 2).info(0).id
    clip = source.read(0, [2, 0])
    joints = clip.hints["keypoints"]
    assert (joints.shape, joints.dtype) == ((2, 15, 2), np.float64)
    assert clip.labels is None
    assert clip.annotated is None
    assert joints[0, :, 0].tolist() == list(range(15))
    assert joints[:, :, 1].tolist() == [[2.0] * 15, [0.0] * 15]


def test_jhmdb_that_does_not_fit(tmp_path: Path) -> None:
    root = tiny.jhmdb(tmp_path)
    video = root / "joint_positions" / "clap" / "a_clap_(x)_1" / "joint_positions.mat"
    savemat(video, {"pos_img": np.zeros((2, 15, 4))})
    with pytest.raises(DataError, match=r"positions.mat: pos_img is \(2, 15, 4\), .*3 frames"):
        Jhmdb(str(root), "test").read(0, [0])
    video.write_bytes(b"MATLAB 5.0, or so it says")
    with pytest.raises(DataError, match=r"cannot read pos_img of .*positions.mat.*copy it again"):
        Jhmdb(str(root), "test").read(0, [0])
    video.unlink()
    with pytest.raises(DataError, match=r"there is no file .*joint_positions.mat"):
        Jhmdb(str(root), "test")
    (root / "splits" / "clap_test_split1.txt").write_text("what is this\n")
    with pytest.raises(DataError, match=r"split1.txt has the line 'what is this'"):
        Jhmdb(str(root))
    with pytest.raises(ConfigError, match=r"fold=4"):
        Jhmdb(str(root), fold=4)
    with pytest.raises(ConfigError, match=r"split=val: choose one of: train, test"):
        Jhmdb(str(root), "val")


def test_vip_classes_and_gaps(tmp_path: Path) -> None:
    source = Vip(str(tiny.vip(tmp_path)))
    assert [source.info(i).id for i in range(2)] == ["15", "16"]
    clip = source.read(0, [0, 1, 2])
    assert annotated(clip) == [True, False, True]
    assert labels_of(clip)[0, :, 0].tolist() == [19] * 6 + [IGNORE] * 6  # 20 is no class
    with pytest.raises(ConfigError, match=r"split=vla: .*did you mean: val"):
        Vip(str(tmp_path), "vla")


def test_ytvos_splits(tmp_path: Path) -> None:
    root = str(tiny.ytvos(tmp_path))
    train = YouTubeVos(root).read(0, [0, 1])
    assert annotated(train) == [True, True]
    assert labels_of(train)[1, :, 0].tolist() == [1] * 6 + [2] * 6
    every = YouTubeVos(root, "train_all_frames")
    assert every.info(1).names == tuple(f"{n:05d}" for n in range(7))
    assert annotated(every.read(1, range(7))) == [n in (0, 5) for n in range(7)]
    assert annotated(YouTubeVos(root, "valid").read(0, [0, 1])) == [True, False]
    shutil.rmtree(tmp_path / "valid" / "JPEGImages" / "b2c")
    with pytest.raises(DataError, match=r"valid/JPEGImages lacks 1 of the 2 videos .*b2c"):
        YouTubeVos(root, "valid")
    (tmp_path / "valid" / "meta.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot read .*meta.json"):
        YouTubeVos(root, "valid")
    shutil.rmtree(tmp_path / "train" / "Annotations")
    with pytest.raises(DataError, match=r"there is no mask in .*train/Annotations"):
        YouTubeVos(root)
    with pytest.raises(ConfigError, match=r"split=val: .*did you mean: valid"):
        YouTubeVos(root, "val")


@pytest.mark.parametrize("name", SOURCES)
def test_a_folder_of_something_else_says_what_it_looks_like(tmp_path: Path, name: str) -> None:
    other = "vip" if name == "ytvos" else "ytvos"
    getattr(tiny, other)(tmp_path / "data")
    prepare = rf"prepare.py {name} --root .*, or point to another place with paths.data="
    with pytest.raises(DataError, match=rf"dataset={name} expects .*it holds .*looks like "
                       rf"dataset={other}\. .*{prepare}"):  # fmt: skip
        SOURCES[name](str(tmp_path / "data"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"that folder is empty"):
        SOURCES[name](str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"there is no such folder"):
        SOURCES[name](str(tmp_path / "nowhere"))


def test_guesses_one_folder_below_and_own_videos(tmp_path: Path) -> None:
    tiny.vip(tmp_path / "VIP_Fine")
    with pytest.raises(DataError, match=r"VIP_Fine looks like dataset=vip\."):
        Vip(str(tmp_path))
    with pytest.raises(DataError, match=r"no video in .*VIP_Fine looks like dataset=vip\."):
        FolderVideos(str(tmp_path))
    tiny.frame(tmp_path / "own" / "clip" / "0.jpg", 1)
    with pytest.raises(DataError, match=r"own looks like dataset=folder\."):
        Vip(str(tmp_path / "own"))


def test_mask_of_another_size_than_the_frame(tmp_path: Path) -> None:
    tiny.frame(tiny.vip(tmp_path) / "Images" / "15" / f"{51:012d}.jpg", 1, (9, 9))
    with pytest.raises(DataError, match=r"mask .*51.png is 12 x 16, but its frame .* is 9 x 9"):
        Vip(str(tmp_path))


def test_mask_without_a_frame(tmp_path: Path) -> None:
    root = tiny.vip(tmp_path)
    (root / "Images" / "16" / f"{1:012d}.jpg").unlink()
    with pytest.raises(DataError, match=rf"16 has 2 frames .*partner: {1:012d}.png"):
        Vip(str(root))


def test_one_pixel_object_survives(tmp_path: Path) -> None:
    root = tiny.segtrack_v2(tmp_path, ["worm"])
    pixels = np.zeros(tiny.SIZE, dtype=np.uint8)
    pixels[11, 15] = 255
    tiny.grey(root / "GroundTruth" / "worm" / "gt0009.png", pixels)
    labels = labels_of(SegTrackV2(str(root), ["worm"]).read(0, [1]))
    assert np.argwhere(labels).tolist() == [[0, 11, 15]]


def test_what_mixes_drops_the_truth_whole(tmp_path: Path) -> None:
    clip = MixedVideos(sources=[Vip(str(tiny.vip(tmp_path)))]).read(0, [0, 1])
    assert (clip.labels, clip.annotated, clip.hints) == (None, None, {})
