"""Rows without training: each is scored once, kept, logged as a run of its own, and never stale."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from slotreel import evaluation, fingerprint, predicting, trivial_runs
from slotreel.backbones.patches import PatchPixels
from slotreel.baselines.trivial import Blocks, OneSlot, RandomLabels
from slotreel.baselines.video_kmeans import FeatureKmeans
from slotreel.build import build_validations
from slotreel.data.image_io import read_labels
from slotreel.files import held
from slotreel.interfaces import Objective
from slotreel.scores import Row
from slotreel.training.run import Validation
from slotreel.trivial_log import Place
from slotreel.trivial_runs import Beside, stored_row
from tests import running

ROWS = ("one_slot", "random", "fg_bg", "blocks", "rgb_kmeans", "feature_kmeans")
CLIP = running.ROOT / "tests" / "data" / "clips" / "dog.mp4"
SETTING = Beside(OneSlot(num_slots=3), 3, 0, (16, 16), torch.device("cpu"), None)


def spec(**data: Any) -> dict[str, Any]:
    """A validation set of one tiny video, as a configuration."""
    return {
        "data": {
            "_target_": "slotreel.data.sources.moving_shapes.MovingShapes", "num_videos": 1,
            "num_frames": 2, "image_size": 16, "seed": 0, **data,
        },
        "protocol": {
            "_target_": "slotreel.protocols.protocol.Protocol", "name": "p", "through": None,
            "metrics": [{"_target_": "slotreel.metrics.segmentation.Segmentation"}],
        },
    }  # fmt: skip


def validation(name: str = "shapes", protocol: Mapping[str, Any] | None = None, **data: Any) -> Any:
    content = spec(**data)
    content["protocol"] |= protocol or {}
    (made,) = build_validations(OmegaConf.create({"validate": {name: content}}))
    return made


class Counter:
    """Scores rows and counts how often."""

    def __init__(self, place: Place) -> None:
        self.place, self.scored = place, 0

    def __call__(
        self, name: str = "blocks", *, objective: Objective | None = None,
        on: Validation | None = None, setting: Beside = SETTING, place: Place | None = None,
    ) -> Row:  # fmt: skip
        model = objective or Blocks(num_slots=setting.num_slots, seed=setting.seed)
        return stored_row(name, model, on or validation(), setting, place or self.place)


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter(Place(tmp_path / "trivial", None, 10, 4))
    plain = trivial_runs.score

    def score(*arguments: Any, **named: Any) -> Any:
        counter.scored += 1
        return plain(*arguments, **named)

    monkeypatch.setattr(trivial_runs, "score", score)
    return counter


def folders(row: Counter) -> list[Path]:
    return sorted(row.place.directory.iterdir())


def test_a_row_is_scored_once_and_comes_back_as_it_was(row: Counter) -> None:
    first, second = row(), row()
    assert first == second
    assert row.scored == 1
    assert first.table.facts == second.table.facts
    assert [facts.frames for facts in second.table.facts.values()] == [2]
    (folder,) = folders(row)
    assert folder.name.startswith("shapes-p-K3-blocks-")
    stored = json.loads((folder / "scores.json").read_text())["sets"]["shapes"]["p"]
    assert stored["rows"][0]["means"] == first.table.means()


ASKED: dict[str, Callable[[Counter], Row]] = {
    "the row": lambda row: row("random", objective=RandomLabels(num_slots=3)),
    "the set": lambda row: row(on=validation("others")),
    "the data": lambda row: row(on=validation(seed=1)),
    "the protocol's name": lambda row: row(on=validation(protocol={"name": "q"})),
    "a protocol's setting": lambda row: row(on=validation(protocol={"max_frames": 1})),
    "a metric's setting": lambda row: row(
        on=validation(
            protocol={"metrics": [{**spec()["protocol"]["metrics"][0], "empty_frame": "one"}]}
        )
    ),
    "K": lambda row: row(setting=SETTING._replace(num_slots=4)),
    "the seed": lambda row: row(setting=SETTING._replace(seed=1)),
    "the size": lambda row: row(setting=SETTING._replace(image_size=(16, 32))),
}


@pytest.mark.parametrize("what", ASKED)
def test_whatever_was_asked_for_differently_is_scored_for_itself(what: str, row: Counter) -> None:
    first, other, again = row(), ASKED[what](row), row()
    assert row.scored == 2
    assert len(folders(row)) == 2
    assert again == first
    assert ASKED[what](row) == other
    assert row.scored == 2


def test_precision_and_device_are_part_of_what_is_asked(
    row: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    row()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    row()
    monkeypatch.setattr(trivial_runs, "score", lambda *_: row().table)
    row(setting=SETTING._replace(device=torch.device("cuda")))
    assert len(folders(row)) == 3


def features(shift: float, patch_size: int = 4) -> FeatureKmeans:
    backbone = PatchPixels(patch_size=patch_size, samples=2)
    backbone.register_buffer("shift", torch.tensor(shift), persistent=False)
    return FeatureKmeans(num_slots=3, backbone=backbone)


def test_k_means_on_features_belongs_to_a_backbone_and_its_weights(row: Counter) -> None:
    def scored(shift: float, **backbone: Any) -> int:
        of = {"_target_": "a.Patches", **backbone}
        row("feature_kmeans", objective=features(shift), setting=SETTING._replace(backbone=of))
        return row.scored

    assert scored(0.0) == scored(0.0) == 1
    assert scored(1.0) == 2, "other weights"
    assert scored(1.0, patch_size=2) == 3, "other settings"
    assert scored(1.0, model="vit/big") == 4
    assert scored(0.0) == scored(1.0) == 4
    names = {folder.name.rsplit("-", 1)[0] for folder in folders(row)}
    assert names == {"shapes-p-K3-feature_kmeans-Patches", "shapes-p-K3-feature_kmeans-vit_big"}


def test_other_rows_do_not_ask_for_the_backbone(row: Counter) -> None:
    row()
    row(setting=SETTING._replace(backbone={"_target_": "a.B"}))
    assert row.scored == 1


CHANGES: dict[str, tuple[str, Any]] = {
    "code": ("CODE", "edited"),
    "outside code": ("outside_code", lambda settings: {"mine.Metric": "edited"}),
    "libraries": ("library_versions", lambda: {"torch": "0"}),
    "files of the data": ("files_version", lambda settings, ignore: "touched"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_the_numbers_were_made_with_is_compared(
    what: str, row: Counter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row()
    monkeypatch.setattr(trivial_runs, *CHANGES[what])
    with caplog.at_level("INFO"):
        row()
    assert f"is scored again: {what} changed since" in caplog.text
    assert row.scored == 2
    row()
    assert row.scored == 2
    assert len(folders(row)) == 1, "the old numbers are replaced"


def test_numbers_of_files_that_changed_meanwhile_are_not_kept(
    row: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter("ab")
    monkeypatch.setattr(trivial_runs, "files_version", lambda *_, **__: next(versions))
    row()
    (folder,) = folders(row)
    assert not (folder / "scores.json").exists()


def truncated(text: str) -> str:
    return text[: len(text) // 2]


def edited(text: str) -> str:
    content = json.loads(text)
    content["sets"]["shapes"]["p"]["rows"][0]["videos"]["x"] = {"ari_video": [1.0, 1.0]}
    return json.dumps(content)


@pytest.mark.parametrize("damage", [truncated, edited, lambda text: "[]", lambda text: ""])
def test_a_damaged_file_is_scored_again_with_a_warning(
    damage: Callable[[str], str], row: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    first = row()
    (folder,) = folders(row)
    path = folder / "scores.json"
    path.write_text(damage(path.read_text()))
    assert row() == first
    assert row.scored == 2
    assert f"{path} is damaged; the row is scored again" in caplog.text
    row()
    assert row.scored == 2


def test_what_another_process_is_writing_is_left_alone(row: Counter) -> None:
    first = row()
    (folder,) = folders(row)
    (folder / "scores.json").unlink()
    (folder / "metrics.jsonl").unlink()
    with held(folder / ".lock") as mine:
        assert mine
        assert row() == first
        assert {path.name for path in folder.iterdir()} == {".lock"}
    assert row() == first
    assert row.scored == 3


def test_where_nothing_can_be_written_rows_are_scored_all_the_same(
    row: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    first = row()
    row.place.directory.with_name("file").touch()
    lost = row.place._replace(directory=row.place.directory.with_name("file"))
    assert row(place=lost) == first
    assert "trivial rows are not kept" in caplog.text


def test_a_set_nobody_described_is_never_kept(row: Counter) -> None:
    unknown = validation()._replace(settings=None)
    assert row(on=unknown) == row(on=unknown)
    assert row.scored == 2
    assert not row.place.directory.exists()


# --- logging ---------------------------------------------------------------------------------


class Recorder:
    """A sink that remembers every run."""

    made: list[Recorder]

    def __init__(self, **facts: Any) -> None:
        self.facts, self.points, self.closed = facts, dict[int, dict[str, float]](), False
        self.made.append(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.points[step] = dict(values)

    def media(self, step: int, name: str, path: Path) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None:
        self.summarised = dict(values)

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        self.tabled = name, list(columns)

    def close(self) -> None:
        self.closed = True


def recorder(**options: Any) -> DictConfig:
    Recorder.made = []
    return OmegaConf.create({"_target_": f"{__name__}.Recorder", "tags": ["mine"], **options})


def test_a_row_is_a_run_with_a_level_line(row: Counter) -> None:
    place = row.place._replace(logger=recorder(project="p", group="sweep 1"))
    score = row(place=place).table.means()["mbo_video"]
    (run,) = Recorder.made
    assert run.closed
    key = "val/shapes/p/mbo_video"
    assert {step: point[key] for step, point in run.points.items()} == {0: score, 10: score}
    assert run.points[10]["clips_seen"] == 40
    assert run.summarised[key] == run.summarised[f"last/{key}"] == score
    assert run.tabled[0] == "eval/shapes/p"
    (folder,) = folders(row)
    assert run.facts["run_dir"] == folder / "logger" / "Recorder-p-sweep_1"
    assert run.facts["name"] == folder.name
    assert (run.facts["job_type"], run.facts["group"]) == ("trivial", "sweep 1")
    assert run.facts["tags"] == ["mine", "shapes"]
    expected = {"choice/model": "blocks", "variant": "blocks", "num_slots": 3, "seed": 0}
    assert expected.items() <= run.facts["config"].items()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 10]
    assert json.loads(lines[1])[key] == score


def test_a_row_is_logged_once_for_each_place_where_it_is_looked_for(row: Counter) -> None:
    row()
    counts, made = [], list[Recorder]()
    for group, last in [("a", 10), ("a", 10), ("a", 5), ("b", 10), ("a", 20)]:
        logger, Recorder.made = recorder(group=group), made
        row(place=row.place._replace(logger=logger, last_step=last))
        counts.append(len(made))
    assert counts == [1, 1, 1, 2, 3], "again only in another group, or for a longer run"
    assert row.scored == 1
    assert sorted(made[-1].points) == [0, 20]


# --- what decides numbers --------------------------------------------------------------------


def test_files_below_the_paths_among_settings_count(tmp_path: Path) -> None:
    root, ignored = tmp_path / "data", tmp_path / "data" / "trivial"
    (root / "deep").mkdir(parents=True)
    ignored.mkdir()
    file = root / "deep" / "a.png"
    file.write_bytes(b"123")
    (root / "loop").symlink_to(root)
    (root / "lost").symlink_to(root / "nowhere")

    def version() -> str:
        return fingerprint.files_version({"data": [{"root": str(root), "n": 3}]}, ignored)

    first = version()
    (ignored / "b").touch()
    assert version() == first
    os.utime(file, ns=(1, 1))
    second = version()
    file.write_bytes(b"1234")
    os.utime(file, ns=(1, 1))
    third = version()
    (root / "new.png").touch()
    assert len({first, second, third, version()}) == 4
    nothing = fingerprint.files_version({"root": str(tmp_path / "none"), "split": "val"}, ignored)
    assert nothing == fingerprint.files_version({}, ignored)


def test_every_source_file_and_every_weight_counts(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "a.py"
    file.write_text("x = 1\n")
    first = fingerprint.code_version(tmp_path)
    (tmp_path / "notes.md").touch()
    assert fingerprint.code_version(tmp_path) == first
    file.write_text("x = 2\n")
    assert fingerprint.code_version(tmp_path) != first
    module = torch.nn.BatchNorm1d(2)
    before = fingerprint.weights_version(module)
    module.running_mean[1] += 1e-6
    assert fingerprint.weights_version(module) != before
    assert fingerprint.weights_version(module.half()) != before


def test_options_that_live_outside_count_with_their_file() -> None:
    mine, theirs = f"{__name__}.Recorder", "slotreel.metrics.jf.JF"
    found = fingerprint.outside_code({"metrics": [{"_target_": mine}, {"_target_": theirs}]})
    assert list(found) == [mine]


# --- the commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_every_row_stands_in_for_a_checkpoint(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = (f"model={name}", f"paths.runs={tmp_path}", "num_slots=4")
    evaluation.eval(
        running.composed(
            "eval", *common, "validate=moving_shapes", "logger=none", "trivial_rows=false",
            "validate.moving_shapes.protocol.max_videos=1",
        )
    )  # fmt: skip
    folder = tmp_path / (f"{name}-patches" if name == "feature_kmeans" else name)
    (scores,) = folder.glob("eval/*/scores.json")
    (only,) = json.loads(scores.read_text())["sets"]["moving_shapes"]["discovery"]["rows"]
    assert only["kind"] == ("oracle" if name == "fg_bg" else "trivial")
    assert {"fg_ari_video", "mbo_video"} <= only["means"].keys()
    words = (*common, f"input={CLIP}", f"output={tmp_path / 'out'}", "image_size=32")
    if name == "fg_bg":
        with pytest.raises(SystemExit):
            predicting.predict(running.composed("predict", *words))
        assert "copies the truth" in caplog.text
        return
    predicting.predict(running.composed("predict", *words))
    masks = sorted((tmp_path / "out" / "dog" / "masks").glob("*.png"))
    assert len(masks) == 12
    first = read_labels(masks[0])
    assert first.shape == (90, 160)
    assert first.min() >= 1
    assert first.max() == (1 if name == "one_slot" else 4)


def test_train_and_eval_share_the_stored_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = running.train(tmp_path / "run", "trainer.trivial_rows=true", "trainer.num_steps=2")
    assert caplog.text.count("scored in") == 6
    kept = sorted(path.name for path in (tmp_path / "trivial").iterdir())
    assert [name.split("-")[3] for name in kept] == sorted(ROWS)
    caplog.clear()
    command = (f"checkpoint={run}", f"paths.runs={tmp_path}", "logger=none")
    evaluation.eval(running.composed("eval", *command))
    assert "scored in" not in caplog.text
    trained = json.loads((run / "scores.json").read_text())["sets"]["moving_shapes"]
    (path,) = run.glob("eval/*/scores.json")
    scored = json.loads(path.read_text())["sets"]["moving_shapes"]
    assert trained["discovery"]["rows"][:6] == scored["discovery"]["rows"][:6]
    assert sorted(path.name for path in (tmp_path / "trivial").iterdir()) == kept
