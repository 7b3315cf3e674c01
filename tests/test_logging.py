"""What a run leaves behind: metrics.jsonl, scores.json, pictures, wandb that never blocks."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
import wandb

from slotreel.mask_clips import clips_drawn
from slotreel.runtime import wandb_sink
from slotreel.runtime.logging import RunLogger
from slotreel.runtime.provenance import describe
from slotreel.runtime.rows import read_rows
from slotreel.runtime.wandb_sink import WandbSink, run_id
from tests import running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    return running.train(
        directory, "logger=wandb", "logger.mode=offline", "trainer.trivial_rows=true",
        "trainer.eval_every=10", "trainer.media_clips=1", "trainer.media_frames=3",
    )  # fmt: skip


def test_the_run_directory(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    expected = {
        "config.yaml", "train.log", "metrics.jsonl", "checkpoints", "scores.json", "scores.md",
        "media", "wandb", "facts.json", "summary.json",
    }  # fmt: skip
    assert expected <= names
    assert (finished.parent / "latest").resolve() == finished.resolve()
    assert {p.suffix for p in (finished / "media").glob("*.*")} == {".png", ".mp4"}
    assert not list(finished.rglob("*.tmp"))


TRAIN = {  # of every row about training steps
    "train/loss", "train/loss/colour_rec", "train/loss/slot_contrast", "train/share/colour_rec",
    "train/share/slot_contrast", "train/lr/all", "train/grad_norm/projector",
    "train/grad_norm/grouper", "train/grad_norm/predictor", "train/grad_norm/decoder",
    "train/colour_rec_r2", "train/contrast_top1", "train/contrast_chance", "train/predictor_shift",
    "perf/step_ms", "perf/data_ms", "perf/clips_s", "perf/peak_gb",
}  # fmt: skip
SCORES = {
    f"val/moving_shapes/discovery/{metric}"
    for metric in ("fg_ari_video", "fg_ari_frame", "mbo_video", "mbo_frame", "miou_video")
}
HEALTH = {
    f"health/moving_shapes/{source}/{name}"
    for source in ("grouper", "decoder")
    for name in (
        "effective_slots", "usage_entropy", "dead_slots", "always_dead", "undecided", "slot_cosine",
        "duplicates", "identity_margin", "temporal_iou", "switch_rate", "place_bias", "agreement",
        "fragments", "slot_rank", "content_share", "slots_per_object", "objects_per_slot",
        "background_leak", "identity_cost", "id_switches",
    )
}  # fmt: skip
AXES = {"step", "clips_seen", "gpu_hours"}


def test_the_keys_everything_logs_through(finished: Path) -> None:
    rows = running.metrics(finished)
    assert rows[5].keys() >= TRAIN | AXES, (TRAIN | AXES) - rows[5].keys()
    for step in (10, 20):  # a score never comes without the health of its slots
        wanted = TRAIN | AXES | SCORES | HEALTH
        assert rows[step].keys() >= wanted, wanted - rows[step].keys()
    assert {f"{key}/skill" for key in SCORES} <= rows[20].keys()
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.keys() >= AXES, "any curve can be drawn over any of them"
        assert line["clips_seen"] == 4 * line["step"]
    hours = [line["gpu_hours"] for line in lines]
    assert 0 < hours[0] < hours[-1]
    assert hours == sorted(hours)


def test_the_facts_to_compare_runs_by(finished: Path) -> None:
    facts = json.loads((finished / "facts.json").read_text())
    assert {"git", "dirty", "slurm_job", "variant", "group"} <= facts.keys()
    assert facts["choice/losses"] == "colour_rec+slot_contrast"
    assert facts["choice/dataset"] == "moving_shapes"
    assert {f"version/{name}" for name in ("python", "torch", "numpy", "wandb")} <= facts.keys()
    assert "trainer.eval_every=10" in facts["variant"]
    assert not any(word in facts["variant"] for word in ("seed", "paths", "logger", "media"))


def test_the_summary_names_last_and_best_with_their_steps(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    rows, key = running.metrics(finished), "val/moving_shapes/discovery/fg_ari_video"
    assert summary["last/step"] == 20
    assert summary[f"last/{key}"] == rows[20][key]
    assert summary[f"last/{key}/skill"] == rows[20][f"{key}/skill"]
    assert summary["best/step"] == max((10, 20), key=lambda step: rows[step][key])
    assert summary["best/value"] == rows[summary["best/step"]][key]
    assert summary[f"best/{key}"] == pytest.approx(summary["best/value"], abs=1e-6)


def test_the_same_clips_are_drawn_at_every_evaluation(finished: Path) -> None:
    drawn = clips_drawn(finished)
    assert [(step, name) for step, name, _ in drawn] == [
        (10, "moving_shapes/clip_00"),
        (20, "moving_shapes/clip_00"),
    ]
    for _, _, path in drawn:
        with av.open(str(path)) as video:
            assert video.streams.video[0].codec_context.name == "h264"
            assert len(list(video.decode(video=0))) == 3


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


SINK: dict[str, Any] = {
    "project": "p", "group": None, "tags": [], "init_timeout_s": 1, "finish_timeout_s": 0.05,
    "config": {}, "name": "n",
}  # fmt: skip


class FakeRun:
    """A run of wandb whose calls do what ``act`` does."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.logged, self.settings = act, 0, SimpleNamespace(mode="online")

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, _: Any) -> None:
        self.logged += 1
        self.act()

    def finish(self) -> None:
        self.act()


@pytest.fixture
def wandb_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], FakeRun]:
    """Makes ``wandb.init`` return a run that acts."""
    monkeypatch.setattr(WandbSink, "unreachable", False)
    monkeypatch.setattr(wandb_sink, "answers", lambda *_: True)

    def use(act: Callable[[], None]) -> FakeRun:
        run = FakeRun(act)
        monkeypatch.setattr(wandb, "init", lambda **_: run)
        return run

    return use


def test_wandb_falls_back_to_offline_under_another_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def init(mode: str, id: str, **_: Any) -> FakeRun:
        asked.append((mode, id))
        if mode == "online":
            raise wandb.errors.CommError("no server")
        return FakeRun(lambda: None)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(WandbSink, "unreachable", False)
    monkeypatch.setattr(wandb_sink, "answers", lambda *_: True)
    sink = WandbSink(mode="online", run_dir=tmp_path, **SINK)
    own = run_id(tmp_path)
    assert asked == [("online", own), ("offline", f"{own}-offline")], "wandb holds the first id"
    assert "logging offline" in caplog.text
    assert not sink.delivered


def test_a_call_that_fails_ends_the_sink_and_not_the_run(
    tmp_path: Path, wandb_run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ConnectionResetError("wandb's own process died")

    run = wandb_run(fail)
    sink = WandbSink(mode="online", run_dir=tmp_path, **SINK)
    for step in range(3):
        sink.log(step, {"x": 1.0})
    sink.table(3, "t", ["a"], [[1]])
    sink.close()
    assert run.logged == 1
    assert caplog.text.count("died") == 1


def test_a_call_that_hangs_is_waited_for_once(
    tmp_path: Path, wandb_run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    never = threading.Event()
    run = wandb_run(never.wait)
    sink = WandbSink(mode="online", run_dir=tmp_path, **SINK)
    for _ in range(3):
        sink.table(3, "t", ["a"], [[1]])
    never.set()
    assert run.logged == 1
    assert "no answer within" in caplog.text
    assert not sink.delivered


@pytest.mark.parametrize(("variable", "mode"), [("disabled", "disabled"), (None, "offline")])
def test_mode_auto_listens_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, mode: str
) -> None:
    asked = []
    monkeypatch.setattr(wandb, "init", lambda mode, **_: asked.append(mode) or FakeRun(int))
    monkeypatch.setattr(wandb_sink, "has_login", lambda: False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    WandbSink(mode="auto", run_dir=tmp_path, **SINK)
    assert asked == [mode]


def test_a_run_keeps_its_id_where_it_is_moved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    own = run_id(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert run_id(tmp_path / "b") == own


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "a": 1, "b": 2}\n{"step": 10, "a"')
    logger = RunLogger(tmp_path, [], enabled=True, num_steps=10)
    logger.log(5, {"a": 3})
    logger.close()
    assert read_rows(path).by_step == {5: {"a": 3, "b": 2}}


def test_the_bar_on_a_terminal_and_lines_in_the_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from slotreel.runtime.logging import RunLogger, setup_logging\n"
        "setup_logging(Path(sys.argv[1]), 0)\n"
        "logger = RunLogger(Path(sys.argv[1]), [], enabled=True, num_steps=100)\n"
        "logger.begin(40)\n"
        "logger.progress(50, 'loss 0.25  fg_ari_video 0.610  87 clips/s', 'slow')\n"
        "logger.bar.refresh()\n"
        "logger.progress(100, 'loss 0.20', 'slow')\n"
        "assert logger.bar is None\n"
    )
    leader, follower = pty.openpty()
    environment = running.environment() | {"COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, stdout=follower, stderr=follower, env=environment, check=True)
    shown = os.read(leader, 100_000).decode()
    assert " 50/100" in shown
    assert "loss 0.25  fg_ari_video 0.610  87 clips/s" in shown
    assert "slow" not in shown
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "step 50  loss 0.25  fg_ari_video 0.610  87 clips/s  slow", "step 100  loss 0.20  slow",
    ]  # fmt: skip


def test_a_variant_is_named_without_its_seed() -> None:
    facts = [
        describe({"grouper": "smtc"}, ["grouper=smtc", f"seed={s}"], {"losses": {"a": 1, "b": 2}})
        for s in (0, 1)
    ]
    assert facts[0]["variant"] == facts[1]["variant"] == "grouper=smtc"
    assert facts[0]["choice/grouper"] == "smtc"
    assert facts[0]["choice/losses"] == "a+b"


def test_a_run_that_goes_on_stays_the_variant_it_was() -> None:
    choices = {"grouper": "smtc", "predictor": "gru"}
    first = describe(choices, ["grouper=smtc", "num_slots=7", "seed=1"], {})
    default = {"grouper": "slot_attention", "predictor": "transformer"}
    resumed = describe(default, ["resume=runs/a", "logger=none"], {}, first)
    assert resumed["variant"] == first["variant"] == "grouper=smtc num_slots=7"
    assert resumed["choice/grouper"] == "smtc"
    clone = describe(
        default | {"predictor": "carry"},
        ["clone=runs/a", "init_from=runs/a", "num_slots=9", "predictor=carry"], {}, first,
    )  # fmt: skip
    assert clone["variant"] == "grouper=smtc num_slots=9 predictor=carry"
    assert (clone["choice/grouper"], clone["choice/predictor"]) == ("smtc", "carry")
