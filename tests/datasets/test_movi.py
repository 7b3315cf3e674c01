"""MOVi: TFRecord files in, PNG frames out, read a few at a time, trained on and scored."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slotreel import evaluation
from slotreel.data import stills
from slotreel.data.image_io import image_size, read_image, read_labels
from slotreel.data.prepare import movi
from slotreel.data.prepare.recipes import RECIPES
from slotreel.data.sources.folder import FolderVideos
from slotreel.data.sources.movi import Movi
from slotreel.errors import ConfigError, DataError
from tests import running
from tests.datasets import movi_records
from tests.datasets.movi_records import FRAMES, SIDE, example, framed, serialized

Prepare = Callable[..., str]
TRAIN = "movi_c-train.tfrecord-00000-of-00002"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movi_records.write(tmp_path_factory.mktemp("bucket") / "1.0.0")


@pytest.fixture
def prepare(
    script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Prepare:
    """Run the script on tmp_path/movi_c; returns what it said, and checks how it ended."""
    module = script("prepare")

    def run(*arguments: str | Path, fails: bool = False, name: str = "movi_c") -> str:
        status = module.main([name, "--root", str(tmp_path / "movi_c"), *map(str, arguments)])
        said = capsys.readouterr()
        assert status == fails, said
        return " ".join((said.err if fails else said.out).split())

    return run


def test_only_the_shards_asked_for_are_fetched(
    tmp_path: Path, published: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "bucket" / "movi_c" / "128x128" / "1.0.0"
    place.parent.mkdir(parents=True)
    place.symlink_to(published)
    monkeypatch.setattr(movi, "BUCKET", (tmp_path / "bucket").as_uri())
    monkeypatch.setitem(RECIPES, "movi_c", movi._movi("c"))
    said = prepare("--download", "--split", "train", "--limit", "1")
    assert "1 of 1" in said
    assert "movi_c train: 1 videos / 6 frames" in said
    fetched = sorted(path.name for path in (tmp_path / "movi_c" / "downloads").iterdir())
    assert fetched == ["dataset_info.json", TRAIN]
    assert "3 of 3" in prepare("--download")
    assert "movi_c train: 4 videos" in prepare("--check")
    assert "names no shards of test" in prepare("--download", "--split", "test", fails=True)


def test_frames_ids_and_hints_survive(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    said = prepare(published)
    root = tmp_path / "movi_c"
    assert "3 shards: 65 files written" in said
    assert "movi_c train: 4 videos / 24 frames, complete; ids 7 to 400, 2 to 3 objects" in said
    assert "movi_c validation: 1 videos / 6 frames, complete; ids 55 to 55, 3 to 3" in said
    source = Movi(str(root), "c")
    assert [source.info(i).id for i in range(4)] == ["7", "12", "31", "400"]
    assert source.info(0).size == (SIDE, SIDE)
    for index, count in ((0, 3), (1, 2)):
        video, ids = movi_records.scene(int(source.info(index).id), count)
        clip = source.read(index, range(FRAMES))
        assert np.array_equal(clip.video, video)
        assert clip.labels is not None
        assert np.array_equal(clip.labels, ids)
        boxes, visibility = clip.hints["boxes"], clip.hints["visibility"]
        assert (boxes.shape, boxes.dtype) == ((FRAMES, 10, 4), np.float32)
        assert (visibility.shape, visibility.dtype) == ((FRAMES, 10), np.float32)
        seen = np.stack([(ids == m + 1).sum((1, 2)) for m in range(10)], axis=1)
        assert np.array_equal(boxes.any(-1), seen > 0)
        assert np.allclose(visibility, seen / np.maximum(seen.max(0), 1))
        for t, m in zip(*np.nonzero(seen), strict=True):
            top, left, bottom, right = np.round(boxes[t, m] * SIDE).astype(int)
            inside = np.zeros((SIDE, SIDE), dtype=bool)
            inside[top:bottom, left:right] = True
            assert np.array_equal(inside, ids[t] == m + 1)
    few = source.read(0, [4, 1])
    whole = source.read(0, range(FRAMES))
    assert few.frames.tolist() == [4, 1]
    assert np.array_equal(few.video, whole.video[[4, 1]])
    assert np.array_equal(few.hints["boxes"], whole.hints["boxes"][[4, 1]])


def test_only_what_was_asked_for_is_decoded(
    tmp_path: Path, published: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(published, "--split", "train")
    source, decoded = Movi(str(tmp_path / "movi_c")), []
    for name, function in (("read_image", read_image), ("read_labels", read_labels)):
        monkeypatch.setattr(stills, name, lambda p, f=function: decoded.append(p.name) or f(p))
    source.read(2, [5, 0])
    assert decoded == ["00005.png", "00000.png"] * 2


def test_stored_pictures_are_the_published_bytes_and_the_second_run_writes_what_lacks(
    tmp_path: Path, published: Path, prepare: Prepare
) -> None:
    prepare(published)
    root = tmp_path / "movi_c" / "movi_c-train"
    features = example("12", 12, 2)
    for kind, name in (("JPEGImages", "video"), ("Annotations", "segmentations")):
        stored = [(root / kind / "12" / f"{n:05d}.png").read_bytes() for n in range(FRAMES)]
        assert stored == features[name]
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}
    (root / "JPEGImages/31/00002.png").unlink()
    (root / "Annotations/7/00001.png").write_bytes(b"half")
    os.truncate(root / "Instances/400.npz", 100)
    assert "3 shards: 3 files written" in prepare(published)
    changed = {p for p in root.rglob("*.*") if p.stat().st_mtime_ns != times[p]}
    assert {p.name for p in changed} == {"00002.png", "00001.png", "400.npz"}
    assert "complete" in prepare("--check")


def test_parts_of_it(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    said = prepare(published, "--limit", "3", "--split", "train", "--resize", "8")
    assert "movi_c train: 3 videos / 18 frames, PARTIAL, published: 4; ids 7 to 31" in said
    assert "8 x 8 pixels" in said
    clip = Movi(str(tmp_path / "movi_c")).read(0, [0])
    assert clip.labels is not None
    assert clip.labels.shape == (1, 8, 8)
    assert "differ in size, (8, 8) and (16, 16)" in prepare(
        published / "movi_c-train.tfrecord-00001-of-00002", fails=True
    )


def test_frames_only_and_a_single_shard(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    said = prepare(published / "movi_c-validation.tfrecord-00000-of-00001", "--frames-only")
    folder = tmp_path / "movi_c" / "movi_c-validation"
    assert f"1 videos, frames only: dataset=folder paths.data={folder}" in said
    assert FolderVideos(str(folder)).read(0, [0]).labels is None
    assert "there is no folder" in prepare("--check", fails=True)
    said = prepare(published / TRAIN, "--split", "train")
    assert "2 videos / 12 frames, how many were published is not known; ids 7 to 12" in said


def test_shards_in_an_archive(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    whole, cut = tmp_path / "movi.tar", tmp_path / "cut.tar.gz"
    for path, mode in ((whole, "w"), (cut, "w:gz")):
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            tar.add(published, "1.0.0")
    cut.write_bytes(cut.read_bytes()[:-3000])
    assert "cut.tar.gz" in prepare(cut, fails=True)
    assert "3 shards: 65 files written" in prepare(whole)


def damaged(kind: str, folder: Path) -> Path:
    """A copy of the first shard with something wrong in its second record, or its folder."""
    first, second = (example(name, int(name)) for name in ("7", "12"))
    file = folder / TRAIN
    content = framed(serialized(first)) + framed(serialized(second))
    if kind == "cut":
        content = content[:-100]
    elif kind == "cut in the length":
        content = framed(serialized(first)) + content[:7]
    elif kind == "flipped":
        content = content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]
    elif kind == "no message":
        content = framed(serialized(first)) + framed(b"\xff" * 40)
    elif kind == "announced":
        info = {"splits": [{"name": "train", "shardLengths": ["3", "1"]}]}
        (folder / "dataset_info.json").write_text(json.dumps(info))
    else:
        changes = {
            "missing": {"instances/visibility": None},
            "no name": {"metadata/video_name": [b"../up"]},
            "twice": {"metadata/video_name": [b"7"]},
            "JPEG": {"video": [b"\xff\xd8\xff"] * FRAMES},
            "fewer masks": {"segmentations": second["segmentations"][1:]},
            "visibility": {"instances/visibility": np.ones(5, dtype=np.int64)},
            "bytes": {"instances/visibility": [b"1"] * 12},
            "lengths": {"instances/bbox_frames/ragged_row_lengths_0": np.array([6, 3])},
            "frames": {"instances/bbox_frames/ragged_flat_values": np.full(9, 6)},
        }[kind]
        second = {k: v for k, v in (second | changes).items() if v is not None}
        content = framed(serialized(first)) + framed(serialized(second))
    file.write_bytes(content)
    return folder if kind == "announced" else file


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cut", "record 1: the file ends 100 bytes too early; download it again"),
        ("cut in the length", "record 1: the file ends 5 bytes too early"),
        ("flipped", "record 1: the bytes differ from their checksum (CRC32C)"),
        ("no message", "record 1: not a tf.train.Example message"),
        ("missing", "record 1: the features instances/visibility are missing"),
        ("no name", "record 1: metadata/video_name is '../up'"),
        ("twice", "record 1: the video movi_c-train/7 came before"),
        ("JPEG", "record 1: frame 0 of the feature video is no PNG picture"),
        ("fewer masks", "record 1: 6 frames in video, but 5 segmentations"),
        ("visibility", "record 1: the feature instances/visibility has 5 values, expected 12"),
        ("bytes", "the feature instances/visibility has 12 values, expected 12 numbers"),
        ("lengths", "record 1: instances have other numbers of bboxes than of bbox_frames"),
        ("frames", "record 1: bbox_frames 6, but there are 6 frames"),
        ("announced", "00000-of-00002 holds 2 records, but dataset_info.json announces 3"),
    ],
)
def test_damage_is_named(tmp_path: Path, prepare: Prepare, kind: str, said: str) -> None:
    (tmp_path / "bucket").mkdir()
    error = prepare(damaged(kind, tmp_path / "bucket"), fails=True)
    assert TRAIN in error
    assert said in error
    folder = tmp_path / "movi_c" / "movi_c-train"
    whole = kind != "announced"
    assert len(list(folder.glob("JPEGImages/*/*.png"))) == (FRAMES if whole else 2 * FRAMES)


def test_folders_that_are_something_else(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    assert "holds nothing of movi_c" in prepare(tmp_path / "photos", fails=True)
    assert "hold no movi_e-" in prepare(published, name="movi_e", fails=True)
    movi_records.write(tmp_path / "tfds" / "128x128")
    movi_records.write(tmp_path / "tfds" / "256x256")
    assert "comes more than once" in prepare(tmp_path / "tfds", fails=True)
    with pytest.raises(DataError, match=r"prepare.py movi_c --root"):
        Movi(str(tmp_path / "photos"))
    with pytest.raises(ConfigError, match="variant=g"):
        Movi(str(tmp_path), "g")
    with pytest.raises(ConfigError, match="did you mean: validation"):
        Movi(str(tmp_path), "c", "valid")


def test_damaged_instances_and_too_many_objects(
    tmp_path: Path, published: Path, prepare: Prepare
) -> None:
    prepare(published, "--split", "train")
    root = tmp_path / "movi_c"
    source, file = Movi(str(root)), root / "movi_c-train" / "Instances" / "7.npz"
    np.savez(file, boxes=np.zeros((FRAMES, 11, 4)), visibility=np.zeros((FRAMES, 11)))
    with pytest.raises(DataError, match="at most 10 objects: is this movi_c"):
        source.read(0, [0])
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"7\.npz"):
        source.read(0, [0])
    file.unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 4 videos, e\.g\. 7\.npz"):
        Movi(str(root))


def test_sheet_shows_frames_with_boxes(
    tmp_path: Path, published: Path, prepare: Prepare, script: Callable[[str], ModuleType]
) -> None:
    prepare(published)
    out, show = tmp_path / "sheet.png", script("show_data")
    assert show.main([str(out), "dataset=movi_c", f"paths.data={tmp_path}", "--videos", "2"]) == 0
    assert min(image_size(out)) > 100
    clip = Movi(str(tmp_path / "movi_c")).read(1, [0, 5])
    drawn = (show.draw_hints(clip) != clip.video).any(-1)
    assert not drawn[0, 0].any()  # no rectangle of the entries that are no object
    assert drawn[0, 1, :].any()
    assert not drawn[1, 1:4].any()  # the first object has left


def test_it_trains_and_is_scored(tmp_path: Path, published: Path, prepare: Prepare) -> None:
    prepare(published)
    small = ["dataset=movi_c", f"paths.data={tmp_path}", "image_size=16", "num_slots=4"]
    run = running.train(
        tmp_path / "run", "debug=tiny", "logger=none", "trainer.trivial_rows=false", *small,
        "decoder.hidden_dim=16", "trainer.num_steps=2", "trainer.save_every=2", tiny=False,
    )  # fmt: skip
    assert np.isfinite(running.metrics(run)[2]["val/movi_c/discovery_video/fg_ari_video"])
    output = tmp_path / "scores"
    evaluation.eval(
        running.composed(
            "eval", f"checkpoint={run}", "validate=movi_c", f"paths.data={tmp_path}",
            "logger=none", f"output={output}", "trivial_rows=false", directory=tmp_path,
        )
    )  # fmt: skip
    stored = json.loads((output / "scores.json").read_text())["sets"]["movi_c"]["discovery_video"]
    assert stored["num_videos"] == 1
