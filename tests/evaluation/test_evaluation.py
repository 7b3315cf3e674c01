"""`./eval.py` on the cut of DAVIS: folders of label maps, official files, propagation, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slotreel.data.image_io import read_labels, write_labels
from slotreel.protocols.score_table import ScoreTable
from slotreel.report import log_scores
from slotreel.results.stored import StoredMasks
from slotreel.scores import Comparison, Row
from slotreel.types import MetricRow, VideoInfo
from tests import running
from tests.datasets import tiny

PROPAGATED = ["model=features", "backbone=patches", "backbone.patch_size=16", "propagation=smtc"]
OFFICIAL = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]


@pytest.fixture
def results(data: Path, tmp_path: Path) -> Path:
    """Label maps of a program that found everything."""
    folder = tmp_path / "results"
    for name in (data / "davis/ImageSets/2017/val.txt").read_text().split():
        shutil.copytree(data / "davis/Annotations/480p" / name, folder / name)
    return folder


def refused(directory: Path, caplog: pytest.LogCaptureFixture, *overrides: str) -> str:
    with pytest.raises(SystemExit):
        running.evaluate(directory, *overrides)
    return caplog.text


def read_csv(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open()))


@pytest.mark.parametrize("protocol", ["davis2017_unsupervised", "davis2017_propagation"])
def test_a_folder_of_results_is_scored_without_a_model(
    data: Path, results: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = running.evaluate(
        tmp_path, f"results={results}", "dataset=davis2017", f"protocol={protocol}",
        f"paths.data={data}",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert all(column in printed for column in OFFICIAL)
    assert "Counted: 3 videos, 3 objects, 20 annotated frames." in printed
    official = output / "official" / f"davis2017-{protocol}"
    assert read_csv(official / "global_results-val.csv") == [
        OFFICIAL, ["1.000", "1.000", "1.000", "0.000", "1.000", "1.000", "0.000"],
    ]  # fmt: skip
    objects = read_csv(official / "per-sequence_results-val.csv")
    assert objects[0] == ["Sequence", "J-Mean", "F-Mean"]
    assert [row[0] for row in objects[1:]] == ["blackswan_1", "bmx-trees_1", "dog_1"]
    scores = json.loads((output / "scores.json").read_text())
    (row,) = scores["sets"]["davis2017"][protocol]["rows"]
    assert set(row["videos"]) == set(row["facts"]) == {"blackswan", "bmx-trees", "dog"}


def test_worse_results_score_less_and_saved_maps_score_the_same(
    data: Path, results: Path, tmp_path: Path
) -> None:
    for file in (results / "dog").glob("*.png"):
        write_labels(file, np.roll(read_labels(file), 9, axis=1))
    options = ("dataset=davis2017", "protocol=davis2017_propagation", f"paths.data={data}")
    first = running.evaluate(tmp_path, f"results={results}", "save_masks=true", *options)
    saved = first / "masks" / "davis2017"
    again = running.evaluate(tmp_path / "again", f"results={saved}", *options)
    official = "official/davis2017-davis2017_propagation/per-sequence_results-val.csv"
    rows = read_csv(first / official)
    assert rows == read_csv(again / official)
    assert float(rows[3][1]) < 0.9
    assert read_labels(saved / "dog" / "00003.png").max() == 1


def test_ends_may_lack_only_where_they_are_not_scored(
    data: Path, results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for video in results.iterdir():
        files = sorted(video.glob("*.png"))
        files[0].unlink()
        files[-1].unlink()
    options = (f"results={results}", "dataset=davis2017", f"paths.data={data}")
    running.evaluate(tmp_path, *options, "protocol=davis2017_propagation")
    text = refused(tmp_path, caplog, *options, "protocol=davis2017_unsupervised")
    assert "has no map 00000.png: frame 0 of 4 of video 'blackswan' would not be scored" in text


def test_bad_results_are_named(
    data: Path, results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = (
        f"results={results}", "dataset=davis2017", f"paths.data={data}",
        "protocol=davis2017_propagation",
    )  # fmt: skip
    file = results / "dog" / "00003.png"
    good = file.read_bytes()
    write_labels(file, read_labels(file)[::2])
    assert f"{file} is 60 x 213" in refused(tmp_path, caplog, *options)
    file.write_bytes(good[:200])
    assert f"cannot read the mask {file}" in refused(tmp_path, caplog, *options)
    file.write_bytes(good)
    write_labels(file, np.where(read_labels(file) > 0, np.uint8(7), np.uint8(0)))
    assert "video 'dog'" in refused(tmp_path, caplog, *options)
    file.unlink()
    assert "has no map 00003.png" in refused(tmp_path, caplog, *options)
    (results / "dog").rename(results / "dogs")
    assert "no folder for video 'dog'; did you mean: dogs?" in refused(tmp_path, caplog, *options)
    shutil.rmtree(results)
    assert "there is no such folder" in refused(tmp_path, caplog, *options)


def test_stored_maps_may_be_named_by_the_frame(tmp_path: Path) -> None:
    write_labels_to = tmp_path / "bird"
    write_labels_to.mkdir()
    for name in ("img_7", "00001"):
        write_labels(write_labels_to / f"{name}.png", np.full((2, 3), len(name), np.uint8))
    video = VideoInfo("bird", 2, (2, 3), ("img_7", "img_9"))
    ready = StoredMasks(tmp_path).stream(video).push(torch.zeros(2, 3, 2, 3))
    assert [int(p.labels[0, 0]) for p in ready if p.labels is not None] == [5, 5]


def test_propagation_by_features_stands_beside_trivial_rows(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = running.evaluate(
        tmp_path, "model=features", "backbone=tiny_vit", "validate=davis2017_propagation",
        "propagation=smtc", "trivial_rows=true", f"paths.data={small}", "save_masks=true",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "top_k=7" in printed
    rows = json.loads((output / "scores.json").read_text())
    rows = rows["sets"]["davis2017_propagation"]["davis2017_propagation"]["rows"]
    assert [row["label"] for row in rows] == [
        "first frame kept", "labels spread by colours", "tiny_vit",
    ]  # fmt: skip
    assert all(0.2 < row["means"]["j"] < 0.95 for row in rows)
    given = read_labels(small / "davis/Annotations/480p/dog/00000.png")
    saved = read_labels(output / "masks/davis2017_propagation/dog/00000.png")
    assert (given == saved).mean() > 0.95, "frame 0 is its own label, at the grid's resolution"


ARCHIVES = {  # validate= -> (writer of a miniature, folder, overrides, what is measured)
    "segtrack_v2": (tiny.segtrack_v2, "segtrack_v2", ["model=blocks"], {"j_fg", "j_matched"}),
    "fbms59": (tiny.fbms59, "fbms59", ["model=rgb_kmeans"], {"j_fg", "j_matched"}),
    "jhmdb_propagation": (tiny.jhmdb, "jhmdb", PROPAGATED, {"pck_0.1", "pck_0.5"}),
    "vip_propagation": (tiny.vip, "vip", PROPAGATED, {"mean_iou", "mean_accuracy", "accuracy"}),
    "ytvos": (tiny.ytvos, "ytvos", ["model=blocks"], {"jf", "fg_ari_video"}),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_benchmark_is_scored_on_a_miniature(name: str, tmp_path: Path) -> None:
    write, folder, overrides, measured = ARCHIVES[name]
    write(tmp_path / "data" / folder)
    small = f"validate.{name}.protocol.image_size=[64,96]"
    sizes = [small] if overrides is PROPAGATED else []
    output = running.evaluate(
        tmp_path, f"validate={name}", f"paths.data={tmp_path / 'data'}", *overrides, *sizes,
        "trivial_rows=true",
    )  # fmt: skip
    protocol = "vos" if name == "ytvos" else name
    stored = json.loads((output / "scores.json").read_text())["sets"][name][protocol]
    assert stored["num_videos"] >= 1
    for row in stored["rows"]:
        assert measured <= row["means"].keys(), row["label"]
        assert all(-1 <= row["means"][metric] <= 1 for metric in measured)
        assert all(facts["frames"] > 0 for facts in row["facts"].values())


def test_a_tuned_backbone_stands_beside_itself_before_training(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = running.train(
        tmp_path / "run", "backbone=tiny_vit", "backbone.frozen=false", "losses=[pixel_rec]",
        "decoder=mlp",
    )  # fmt: skip
    common = (
        "validate=davis2017_propagation", f"paths.data={small}", "propagation=smtc",
        "validate.davis2017_propagation.protocol.max_videos=1", "trivial_rows=true",
    )  # fmt: skip
    output = running.evaluate(tmp_path, f"checkpoint={run}", *common)
    rows = json.loads((output / "scores.json").read_text())["sets"]["davis2017_propagation"]
    labels = [row["label"] for row in rows["davis2017_propagation"]["rows"]]
    assert labels[-2:] == ["its backbone before training", "checkpoint"]
    plain = running.evaluate(tmp_path / "plain", "model=features", "backbone=tiny_vit", *common)
    same = json.loads((plain / "scores.json").read_text())["sets"]["davis2017_propagation"]
    before, _ = rows["davis2017_propagation"]["rows"][-2:]
    assert before["means"] == same["davis2017_propagation"]["rows"][-1]["means"]
    lost = tmp_path / "lost.pth"
    running.evaluate(tmp_path / "without", f"checkpoint={run}", f"before_training={lost}", *common)
    assert (
        f"no row of the backbone before training: expected a weights file at {lost}" in caplog.text
    )


def test_a_protocol_brings_its_own_data_or_says_what_to_type(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = refused(
        tmp_path, caplog, "model=blocks", "validate=moving_shapes",
        "protocol=davis2017_unsupervised", f"paths.data={data}",
    )  # fmt: skip
    assert "type validate=davis2017_unsupervised instead of protocol=" in text
    text = refused(tmp_path, caplog, "model=blocks", "validate=moving_shapes", "propagation=dino")
    assert "propagation= needs a protocol that spreads labels" in text
    text = refused(tmp_path, caplog, "model=blocks", f"results={data}", "validate=moving_shapes")
    assert "model= and results= exclude each other" in text
    text = refused(tmp_path, caplog, "validate=moving_shapes")
    assert "name what to run" in text


def test_published_numbers_are_left_out_once_the_protocol_is_changed(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (
        "experiment=dino_vits16_propagation", "backbone.weights=random", f"paths.data={small}",
        "+backbone.model_args.depth=1",
    )  # fmt: skip
    one = "validate.davis2017_propagation.protocol.max_videos=1"
    running.evaluate(tmp_path, *common, one, "propagation=smtc")
    assert "published 61.8" not in capsys.readouterr().out
    running.evaluate(tmp_path, *common, "propagation=smtc")
    assert (
        "J&F 61.8 was published on 30 videos and is not compared with 2" in capsys.readouterr().out
    )


class Recorder:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.tables: dict[str, tuple[list[str], list[list[object]]]] = {}

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= values

    def media(self, step: int, name: str, path: Path) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None: ...

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        self.tables[name] = (list(columns), [list(row) for row in rows])

    def close(self) -> None: ...


def test_loggers_get_scores_skills_and_a_row_per_video() -> None:
    def table(first: float) -> ScoreTable:
        rows: dict[str, MetricRow] = {
            "a": {"jf": (first, 1.0), "pck/0": (1.0, 2.0), "pck/1": (1.0, 1.0)},
            "b": {"jf": (0.0, 0.0)},
        }
        return ScoreTable("set", "protocol", "line", rows)

    rows = [Row("blocks", "trivial", table(0.2)), Row("checkpoint", "model", table(0.6), 7)]
    recorder = Recorder()
    log_scores(recorder, [Comparison(rows, 5, "decoder")], 7)
    assert recorder.values["val/set/protocol/jf"] == 0.6
    assert recorder.values["val/set/protocol/jf/skill"] == pytest.approx(0.5)
    assert recorder.tables == {
        "eval/set/protocol": (["clip_id", "jf", "pck"], [["a", 0.6, 0.75], ["b", None, None]])
    }
