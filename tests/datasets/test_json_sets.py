"""`ytvis2019`, `ytvis2021`, `coco`: labels, splits, what is refused, and training on miniatures."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from slotreel import evaluation
from slotreel.data.sources.coco import Coco
from slotreel.data.sources.ytvis import PUBLISHED, YouTubeVis
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip
from tests import running
from tests.datasets import tiny, tiny_json

LEFT, RIGHT = (tiny_json.box(place) > 0 for place in (tiny_json.LEFT, tiny_json.RIGHT))
BOTH = np.where(LEFT & RIGHT, 255, LEFT + 2 * RIGHT)


def labels_of(clip: RawClip) -> np.ndarray:
    assert clip.labels is not None
    assert clip.annotated is not None
    assert clip.annotated.all()
    return clip.labels


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def names(source: VideoSource) -> list[str]:
    return [source.info(i).id for i in range(len(source))]


@pytest.mark.parametrize("file", ["train/instances.json", "train/train.json", "train.json"])
def test_ytvis_labels_by_frame(tmp_path: Path, file: str) -> None:
    source = YouTubeVis(str(tiny_json.ytvis(tmp_path, file=file)), 2019, "all")
    assert names(source) == ["v1", "v2", "v3", "v4"]
    assert source.info(1) == ("v2", 3, tiny.SIZE, ("00000", "00005", "00010"))
    clip = source.read(1, [2, 1])
    assert clip.video[:, 0, 0, 0].tolist() == [22, 21]
    assert np.array_equal(labels_of(clip), [BOTH, LEFT])
    assert not labels_of(source.read(3, [0, 2])).any(), "a video without annotations"
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(labels_of(again.read(0, [0])), [BOTH])


def test_ytvis_keeps_the_last_videos_by_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(tiny_json.ytvis(tmp_path, 12))
    with caplog.at_level(logging.WARNING):
        validation = YouTubeVis(root, split="validation", num_validation=3)
    assert "names 12 videos, 2985 were published" in caplog.text
    assert names(validation) == ["v10", "v11", "v12"]
    assert names(YouTubeVis(root, num_validation=3)) == [f"v{n}" for n in range(1, 10)]
    assert np.array_equal(labels_of(validation.read(0, [0])), [BOTH])
    with pytest.raises(
        ConfigError, match=r"num_validation=300: .*12 videos, .*type num_validation=1 "
    ):
        YouTubeVis(root)


def test_ytvis_edition(tmp_path: Path) -> None:
    root = tiny_json.ytvis(tmp_path)
    with pytest.raises(ConfigError, match="edition=2020"):
        YouTubeVis(str(root), 2020)
    with pytest.raises(ConfigError, match="split=val: choose one of: train, validation, all"):
        YouTubeVis(str(root), split="val")

    def copies(content: dict[str, Any]) -> None:
        one = content["videos"][0]
        content["videos"] += [one | {"id": 10 + n} for n in range(PUBLISHED[2019] - 4)]

    change(root / "train" / "instances.json", copies)
    with pytest.raises(DataError, match=r"2238 videos, .* 2019 edition: type dataset=ytvis2019 "):
        YouTubeVis(str(root))


def test_coco_labels(tmp_path: Path) -> None:
    source = Coco(str(tiny_json.coco(tmp_path)), "val2017")
    assert names(source) == [f"{n:012d}" for n in (9, 25, 30, 34)]
    assert source.info(3) == (f"{34:012d}", 1, tiny.SIZE, (f"{34:012d}",))
    assert np.array_equal(labels_of(source.read(0, [0])), [BOTH])
    crowd = BOTH.copy()
    crowd[:2] = 255
    assert np.array_equal(labels_of(source.read(1, [0])), [crowd])
    assert not labels_of(source.read(2, [0])).any()
    assert np.array_equal(labels_of(source.read(3, [0])), [RIGHT])
    with pytest.raises(ConfigError, match=r"split=val: .*did you mean: val2017"):
        Coco(str(tmp_path), "val")


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]


YTVIS_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a mask too few": (
        lambda c: first(c)["segmentations"].pop(),
        r"annotation 6 has 2 segmentations, but its video 3 has 3 frames",
    ),
    "no such video": (lambda c: first(c).update(video_id=99), "its video 99 is not named"),
    "mask size": (
        lambda c: first(c)["segmentations"][0].update(size=[16, 12]),
        r"annotation 6 on v3/00000.jpg: the mask is 16 x 12: expected .* 12 x 16; copy",
    ),
    "short runs": (
        lambda c: c["annotations"][1]["segmentations"][2].update(counts=[4]),
        "annotation 5 on v3/00010.jpg: the runs cover 4 pixels",
    ),
    "no runs": (
        lambda c: first(c)["segmentations"][0].update(counts=None), "cannot read .*is neither",
    ),
    "video twice": (lambda c: c["videos"].append(c["videos"][0]), "video 4 is there twice"),
    "no width": (lambda c: c["videos"][0].pop("width"), "'width' of .* is missing"),
    "no masks": (lambda c: first(c).pop("segmentations"), "'segmentations' of .* is missing"),
    "other frames": (
        lambda c: c["videos"][0].update(width=15),
        r"the mask .*instances.json is 12 x 15, but its frame .*v4/00000.jpg is 12 x 16",
    ),
    "valid": (lambda c: c.update(annotations=[]), "'annotations' of .* is empty: the"),
    "no videos": (lambda c: c.pop("videos"), "has no list 'videos'"),
}  # fmt: skip


@pytest.mark.parametrize("name", YTVIS_DAMAGE)
def test_ytvis_damage_is_named(tmp_path: Path, name: str) -> None:
    edit, message = YTVIS_DAMAGE[name]
    change(tiny_json.ytvis(tmp_path) / "train" / "instances.json", edit)
    with pytest.raises(DataError, match=message):
        YouTubeVis(str(tmp_path), split="all")


COCO_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no such image": (lambda c: first(c).update(image_id=1), "annotation 7 belongs to image 1, "),
    "captions": (lambda c: first(c).pop("segmentation"), "is no annotation with a segmentation"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), r"image 25 \(0+25.jpg\) is"),
    "far polygon": (
        lambda c: first(c)["segmentation"][0].append(1e9) or first(c)["segmentation"][0].append(0),
        "annotation 7 on 0+9.jpg: a polygon leaves the frame: x from 6.0 to 1000000000.0",
    ),
    "255 objects": (
        lambda c: c.update(annotations=[{**first(c), "id": n} for n in range(255)]),
        "annotation 254 on 0+9.jpg: expected at most 254 objects",
    ),
    "no name": (lambda c: c["images"][0].pop("file_name"), "'file_name' of .* is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", COCO_DAMAGE)
def test_coco_damage_is_named(tmp_path: Path, name: str) -> None:
    edit, message = COCO_DAMAGE[name]
    change(tiny_json.coco(tmp_path) / "annotations" / "instances_val2017.json", edit)
    with pytest.raises(DataError, match=message):
        Coco(str(tmp_path), "val2017")


def test_damaged_text_is_named_when_it_is_read(tmp_path: Path) -> None:
    file = tiny_json.coco(tmp_path) / "annotations" / "instances_val2017.json"
    change(file, lambda c: c["annotations"][-1]["segmentation"].update(counts="0"))
    with pytest.raises(DataError, match=r"val2017.json: frame 0 of 0+34: the runs cover 0 pixels"):
        Coco(str(tmp_path), "val2017")
    file.write_text('{"images": [')
    with pytest.raises(DataError, match=r"cannot read .*val2017.json: Expecting value"):
        Coco(str(tmp_path), "val2017")


def test_missing_frames_are_named(tmp_path: Path) -> None:
    tiny_json.ytvis(tmp_path / "vis")
    (tmp_path / "vis/train/JPEGImages/v2/00005.jpg").unlink()
    with pytest.raises(
        DataError, match=r"lacks 1 of the 12 frames of .*instances.json: v2/00005.jpg"
    ):
        YouTubeVis(str(tmp_path / "vis"), split="all")
    tiny_json.coco(tmp_path / "coco")
    for number in (9, 30):
        (tmp_path / f"coco/val2017/{number:012d}.jpg").unlink()
    with pytest.raises(DataError, match=r"val2017 lacks 2 of the 4 .*: 0+9.jpg, 0+30.jpg\. data"):
        Coco(str(tmp_path / "coco"), "val2017")


SOURCES: dict[str, Callable[[str], VideoSource]] = {
    "ytvis2019": lambda root: YouTubeVis(root, 2019), "ytvis2021": YouTubeVis, "coco": Coco,
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_a_folder_of_something_else_says_what_it_looks_like(tmp_path: Path, name: str) -> None:
    tiny.ytvos(tmp_path)
    with pytest.raises(DataError, match=rf"dataset={name} expects .*looks like dataset=ytvos\. .*"
                       rf"prepare.py {name} --root"):  # fmt: skip
        SOURCES[name](str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="that folder is empty"):
        SOURCES[name](str(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["ytvis2019", "ytvis2021", "coco"])
def test_prepare(
    tmp_path: Path,
    name: str,
    script: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, root = tmp_path / "made", tmp_path / "root"
    if name == "coco":
        tiny_json.coco(made)
    else:
        tiny_json.ytvis(made, file="train.json" if name == "ytvis2019" else "train/instances.json")
    assert script("prepare").main([name, "--root", str(root), str(made), "--limit", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    if name == "coco":
        assert "coco val2017: 2 videos / 2 frames, PARTIAL, published: 5000 / 5000" in said
        assert np.array_equal(labels_of(Coco(str(root)).read(0, [0])), [BOTH])
    else:
        edition = int(name.removeprefix("ytvis"))
        published = PUBLISHED[edition]
        assert f"{name} train: 2 videos / 6 frames, PARTIAL, published: {published}" in said
        assert names(YouTubeVis(str(root), edition, "all")) == ["v1", "v2"]
    assert script("prepare").main([name, "--root", str(root), str(made)]) == 0
    assert ": 4 videos" in " ".join(capsys.readouterr().out.split())
    assert script("prepare").main([name, "--root", str(root), "--check"]) == 0


TRAINED = {  # dataset -> (writer, what makes its training small, validate, its overrides, videos)
    "ytvis2019": (
        tiny_json.ytvis, ["dataset.source.num_validation=2", "validate=none"],
        "ytvis2019", ["validate.ytvis2019.data.num_validation=3"], 3,
    ),
    "ytvis2021": (
        tiny_json.ytvis,
        ["dataset.source.num_validation=2", "dataset.validation.ytvis2021.data.num_validation=2"],
        "discovery_video_ytvis210",
        ["validate.discovery_video_ytvis210.data.num_validation=3",
         "validate.discovery_video_ytvis210.protocol.max_videos=2"], 2,
    ),
    "coco": (tiny_json.coco, ["clip_length=1"], "coco", [], 4),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_train_and_evaluate(tmp_path: Path, name: str) -> None:
    write, typed, validate, again, count = TRAINED[name]
    write(tmp_path / "data" / name)
    common = [f"paths.data={tmp_path / 'data'}", "logger=none"]
    run = running.train(
        tmp_path / "run", "debug=tiny", f"dataset={name}", "losses=feature_rec", "image_size=32",
        "num_slots=3", "decoder.hidden_dim=16", "trainer.num_steps=3", "trainer.batch_size=2",
        "trainer.trivial_rows=false", *common, *typed, tiny=False,
    )  # fmt: skip
    output = tmp_path / "out"
    evaluation.eval(
        running.composed(
            "eval", f"checkpoint={run}", f"validate={validate}", "trivial_rows=false",
            f"output={output}", f"paths.runs={tmp_path}", *common, *again, directory=tmp_path,
        )
    )  # fmt: skip
    (stored,) = json.loads((output / "scores.json").read_text())["sets"][validate].values()
    assert stored["num_videos"] == count
    means = stored["rows"][0]["means"]
    assert 0 < means["mbo_video"] < 1
    assert -1 <= means["fg_ari_video"] <= 1
