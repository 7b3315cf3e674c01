"""What a run leaves behind: metrics.jsonl, scores.json, pictures, wandb that never blocks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from slotreel.runtime.provenance import describe
from slotreel.runtime.sinks import WandbSink, run_id
from tests import running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    return running.train(
        directory, "logger=wandb", "logger.mode=offline", "trainer.trivial_rows=true",
        "trainer.eval_every=10",
    )  # fmt: skip


def test_the_run_directory(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    expected = {
        "config.yaml", "train.log", "metrics.jsonl", "checkpoints", "scores.json", "scores.md",
        "media", "wandb",
    }  # fmt: skip
    assert expected <= names
    assert (finished.parent / "latest").resolve() == finished.resolve()
    assert {p.suffix for p in (finished / "media").iterdir()} == {".png", ".mp4"}
    assert not list(finished.rglob("*.tmp"))


def test_the_keys_everything_logs_through(finished: Path) -> None:
    keys = set().union(*running.metrics(finished).values())
    promised = {
        "step", "clips_seen", "train/loss", "train/loss/colour_rec", "train/share/slot_contrast",
        "train/lr/all", "train/grad_norm/grouper", "train/grad_norm/decoder", "train/colour_rec_r2",
        "train/contrast_top1", "train/contrast_chance", "train/predictor_shift", "perf/step_ms",
        "perf/data_ms", "perf/clips_s", "val/moving_shapes/discovery/fg_ari_video",
        "val/moving_shapes/discovery/mbo_video", "val/moving_shapes/discovery/mbo_video/skill",
    }  # fmt: skip
    assert promised <= keys, promised - keys


def test_every_trivial_row_stands_in_the_table(finished: Path) -> None:
    scores = json.loads((finished / "scores.json").read_text())
    rows = scores["sets"]["moving_shapes"]["discovery"]["rows"]
    kinds = [row["kind"] for row in rows]
    assert kinds.count("trivial") == 5
    assert kinds.count("oracle") == 1
    assert "last" in kinds
    assert {"seed", "step", "wall_minutes", "cpu_minutes"} <= scores.keys()
    table = (finished / "scores.md").read_text()
    for label in ("one slot", "random labels", "fixed blocks", "k-means on colours"):
        assert label in table


def test_wandb_wrote_an_offline_run_with_a_stable_id(finished: Path) -> None:
    (folder,) = (finished / "wandb").glob("offline-run-*")
    assert folder.name.endswith(run_id(finished))
    assert list(folder.glob("*.wandb"))


def test_every_trivial_row_is_a_wandb_run_of_its_own(finished: Path) -> None:
    folders = sorted((finished.parent / "trivial").iterdir())
    assert len(folders) == 6
    for folder in folders:
        (log,) = (folder / "logger").glob("*/wandb/offline-run-*")
        assert log.name.endswith(run_id(log.parents[1]))
        (content,) = log.glob("*.wandb")
        assert b"val/moving_shapes/discovery/mbo_video" in content.read_bytes()
    (own,) = (finished / "wandb").glob("offline-run-*")
    (content,) = own.glob("*.wandb")
    assert b"last/val/moving_shapes" in content.read_bytes(), "its own run went on after theirs"


def test_wandb_falls_back_to_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    modes = []

    class FakeRun:
        def define_metric(self, *_: Any, **__: Any) -> None: ...

    def init(mode: str, **_: Any) -> FakeRun:
        modes.append(mode)
        if mode == "online":
            raise wandb.errors.CommError("no server")
        return FakeRun()

    monkeypatch.setattr(wandb, "init", init)
    with caplog.at_level(logging.WARNING):
        WandbSink(
            project="p", mode="online", group=None, tags=[], init_timeout_s=1, finish_timeout_s=1,
            run_dir=tmp_path, config={}, name="n",
        )  # fmt: skip
    assert modes == ["online", "offline"]
    assert "logging offline" in caplog.text


def test_a_variant_is_named_without_its_seed() -> None:
    facts = [
        describe({"grouper": "smtc"}, ["grouper=smtc", f"seed={s}"], {"losses": {"a": 1, "b": 2}})
        for s in (0, 1)
    ]
    assert facts[0]["variant"] == facts[1]["variant"] == "grouper=smtc"
    assert facts[0]["choice/grouper"] == "smtc"
    assert facts[0]["choice/losses"] == "a+b"
