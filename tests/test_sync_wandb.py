"""What scripts/sync_wandb.py sends, without wandb; tests/test_wandb.py has it with a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import sync_wandb


class Recorder:
    """Takes what a sink takes."""

    said: list[tuple[Any, ...]]
    delivered = True

    def __init__(self, **arguments: Any) -> None:
        Recorder.said = [("run", arguments)]

    def log(self, step: int, values: dict[str, float]) -> None:
        self.said.append(("log", step, values))

    def media(self, step: int, name: str, path: Path) -> None:
        self.said.append(("media", step, name))

    def summary(self, values: dict[str, Any]) -> None:
        self.said.append(("summary", values))

    def table(self, step: int, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        self.said.append(("table", step, name, columns, rows))

    def close(self) -> None: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed after step 20 and resumed at step 10."""
    monkeypatch.setattr(sync_wandb, "WandbSink", Recorder)
    directory = tmp_path / "runs" / "one"
    clip = directory / "media" / "birds" / "clip_00" / "step_00000010.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"video")
    (directory / "config.yaml").write_text("logger: {project: p, tags: [mine]}\nseed: 3\n")
    facts = {"group": "sweep", "choice/dataset": "birds", "variant": "v"}
    (directory / "facts.json").write_text(json.dumps(facts))
    rows = [(10, 1.0), (20, 2.0), (20, 3.0), (30, 4.0)]
    lines = [json.dumps({"step": step, "x": x}) for step, x in rows]
    (directory / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 40']))
    row = {"kind": "last", "step": 30, "videos": {"a": {"fg": [0.5, 1]}}, "facts": {}}
    scores = {"step": 30, "sets": {"birds": {"vos": {"rows": [row]}}}}
    (directory / "scores.json").write_text(json.dumps(scores))
    (directory / "summary.json").write_text('{"last/step": 30}')
    return directory


def test_rows_are_merged_and_media_come_with_their_step(run: Path) -> None:
    assert sync_wandb.main([str(run.parent)]) == 0
    (_, arguments), *said = Recorder.said
    assert said == [
        ("log", 10, {"x": 1.0}),
        ("media", 10, "birds/clip_00"),
        ("log", 20, {"x": 3.0}),
        ("log", 30, {"x": 4.0}),
        ("table", 30, "eval/birds/vos", ["clip_id", "fg"], [["a", 0.5]]),
        ("summary", {"last/step": 30}),
    ]
    assert (arguments["project"], arguments["group"], arguments["mode"]) == ("p", "sweep", "online")
    assert arguments["tags"] == ["mine", "birds"]
    assert arguments["config"]["seed"] == 3
    assert arguments["config"]["variant"] == "v"


def test_again_only_what_is_new(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync_wandb.main([str(run)]) == 0
    Recorder.said = []
    assert sync_wandb.main([str(run)]) == 0
    assert "nothing new" in capsys.readouterr().out
    assert Recorder.said == []
    with (run / "metrics.jsonl").open("a") as file:
        file.write('\n{"step": 30, "x": 5.0}\n{"step": 50, "x": 6.0}\n')
    assert sync_wandb.main([str(run)]) == 0
    assert "1 had changed" in capsys.readouterr().out
    assert Recorder.said[1:] == [("log", 30, {"x": 5.0}), ("log", 50, {"x": 6.0})]
    assert sync_wandb.main([str(run), "--project", "other"]) == 0
    assert len(Recorder.said) == 8, "another project has nothing yet"


def test_what_did_not_arrive_is_sent_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "delivered", False)
    assert sync_wandb.main([str(run)]) == 1
    monkeypatch.setattr(Recorder, "delivered", True)
    assert sync_wandb.main([str(run)]) == 0
    assert len(Recorder.said) == 7


def test_a_run_that_was_online_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "wandb" / "run-20261121_080000-abc").mkdir(parents=True)
    Recorder.said = []
    assert sync_wandb.main([str(run)]) == 0
    assert "left alone" in capsys.readouterr().out
    assert Recorder.said == []
    assert sync_wandb.main([str(run), "--again"]) == 0
    assert len(Recorder.said) == 7


def test_a_place_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync_wandb.main([str(tmp_path)]) == 1
    assert "there is none" in capsys.readouterr().err
