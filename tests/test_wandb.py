"""wandb itself: what its files and its server get, and servers that freeze, refuse or die."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slotreel.runtime.rows import read_rows
from slotreel.runtime.wandb_sink import run_id
from tests import running
from tests.wandb_server import KEY, WandbServer

pytestmark = pytest.mark.slow
TOO_LONG_S = 240  # a process that takes longer hangs
ONLINE = (
    "logger=wandb",
    "logger.mode=online",
    "logger.init_timeout_s=5",
    "logger.finish_timeout_s=5",
)


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


def call(server: WandbServer | None, *command: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, because wandb keeps its settings for the life of a process."""
    environment = running.environment()
    if server is not None:
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TOO_LONG_S,
    )


SYNC = str(running.ROOT / "scripts" / "sync_wandb.py")


def inspected(directory: Path) -> list[dict[str, Any]]:
    """Records of the only offline run of a directory, read by wandb's own command."""
    (folder,) = (directory / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOO_LONG_S, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def history(records: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Logged values by our step."""
    rows: dict[int, dict[str, Any]] = {}
    for record in records:
        if record["type"] == "history":
            item = record["history"]["item"]
            rows.setdefault(item["step"], {}).update(item)
    return rows


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that was stopped at 10 and resumed: two offline folders of wandb."""
    directory = tmp_path_factory.mktemp("offline") / "run"
    options = ("logger=wandb", "logger.mode=offline", "trainer.eval_every=10",
               "trainer.media_frames=2", "trainer.media_clips=1")  # fmt: skip
    running.train(directory, *options)
    for path in (directory / "checkpoints").glob("*20.pt"):
        path.unlink()  # as if it had been killed before
    running.train(directory, *options, f"resume={directory}")
    return directory


def test_the_offline_file_holds_what_metrics_jsonl_holds(tmp_path: Path) -> None:
    directory = running.train(
        tmp_path / "run", "logger=wandb", "logger.mode=offline", "trainer.eval_every=10",
        "trainer.trivial_rows=true",
    )  # fmt: skip
    records = inspected(directory)
    logged = history(records)
    for step, row in read_rows(directory / "metrics.jsonl").by_step.items():
        for key, value in row.items():
            assert logged[step][key] == pytest.approx(value), (step, key)
    (defined,) = [r["metric"] for r in records if r.get("metric", {}).get("glob_name") == "*"]
    assert defined["step_metric"] == "step"
    (config,) = [r["run"]["config"]["update"] for r in records if r["type"] == "run"]
    facts = json.loads((directory / "facts.json").read_text())
    for name in ("git", "dirty", "variant", "choice/grouper", "version/torch"):
        assert config[name] == facts[name]
    assert config["trainer"]["num_steps"] == 20
    summary: dict[str, Any] = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    for key, value in json.loads((directory / "summary.json").read_text()).items():
        assert summary[key] == pytest.approx(value), key
    assert logged[20]["media/moving_shapes/clip_00._type"] == "video-file"
    assert logged[20]["eval/moving_shapes/discovery._type"] == "table-file"


def test_a_run_online(server: WandbServer, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    options = (*ONLINE, "logger.artifact=true", "logger.group=sweep", "trainer.media_frames=2")
    done = call(server, str(running.script(directory)), str(directory), *options)
    assert done.returncode == 0, done.stderr
    name = run_id(directory)
    told = server.runs[name]
    assert (told["groupName"], told["jobType"]) == ("sweep", "train")
    assert {"moving_shapes", "patches"} <= set(told["tags"])
    sent = [row["step"] for row in server.rows[name]]
    assert set(read_rows(directory / "metrics.jsonl").by_step) <= set(sent)
    assert any("media/videos/media/moving_shapes/clip_01" in file for file in server.files)
    assert any("media/table/eval/moving_shapes" in file for file in server.files)
    assert server.operations.count("CreateArtifact") == 2, "the table and the checkpoint"
    assert not list((directory / "wandb" / ".local").rglob("*.pt")), "the checkpoint is not copied"


LOST = """
import logging, os, sys
from pathlib import Path
from slotreel.runtime.wandb_sink import WandbSink
from tests.wandb_server import KEY, WandbServer

logging.basicConfig()
before, after = sys.argv[2:]
server = WandbServer()
os.environ |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
getattr(server, before, lambda: None)()

def sink(name):
    (Path(sys.argv[1]) / name).mkdir()
    return WandbSink(
        project="p", mode="online", group=None, tags=[], init_timeout_s=2, finish_timeout_s=2,
        run_dir=Path(sys.argv[1]) / name, config={}, name=name,
    )

one = sink("one")
one.log(1, {"x": 1.0})
getattr(server, after, lambda: None)()
for step in range(2, 200):
    one.log(step, {"x": 1.0})
one.table(200, "eval/x", ["clip_id"], [["a"]])
one.table(200, "eval/y", ["clip_id"], [["a"]])
one.summary({"last/x": 1.0})
one.close()
print(one.delivered, sink("two").run.settings.mode)
"""


def lose(directory: Path, before: str, after: str) -> tuple[str, str]:
    """A run whose server freezes or closes; what it printed and what it warned of."""
    done = call(None, "-c", LOST, str(directory), before, after)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("how", ["close", "freeze"])
def test_a_server_that_is_not_there(tmp_path: Path, how: str) -> None:
    printed, said = lose(tmp_path, how, "")
    assert printed == "False offline"
    assert said.count("no answer from") == 1, "the second run of a process does not wait again"
    assert "sync_wandb.py" in said
    assert list((tmp_path / "one" / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("how", ["close", "freeze"])
def test_a_server_that_goes_away_in_the_middle(tmp_path: Path, how: str) -> None:
    printed, said = lose(tmp_path, "", how)
    assert printed == "False offline"
    assert said.count("was not sent") == 2, "one table and the end were waited for, no more"


def test_a_resumed_run_becomes_one_online_run(
    server: WandbServer, interrupted: Path, tmp_path: Path
) -> None:
    assert len(list((interrupted / "wandb").glob("offline-run-*"))) == 2
    run = tmp_path / "run"
    shutil.copytree(interrupted, run, symlinks=True)
    name, truth = run_id(interrupted), read_rows(run / "metrics.jsonl").by_step
    first = call(server, SYNC, str(run))
    assert first.returncode == 0, first.stderr
    sent = [row for row in server.rows[name] if "train/loss" in row]
    assert [row["step"] for row in sent] == [5, 10, 15, 20]
    assert [row["train/loss"] for row in sent] == [truth[s]["train/loss"] for s in (5, 10, 15, 20)]
    assert any("clip_00" in file for file in server.files)
    assert server.summaries[name]["last/step"] == 20

    number = len(server.rows[name])
    assert "nothing new" in call(server, SYNC, str(run)).stdout
    assert len(server.rows[name]) == number

    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "train/loss": 0.5}\n{"step": 30, "train/lo')
    server.freeze()
    failed = call(server, SYNC, str(run), "--timeout", "2")
    assert failed.returncode == 1
    assert "did not take all" in failed.stderr
    server.thaw.set()
    assert call(server, SYNC, str(run)).returncode == 0
    assert [row["step"] for row in server.rows[name][number:] if "train/loss" in row] == [25]


def test_merged_offline(interrupted: Path, tmp_path: Path) -> None:
    done = call(None, SYNC, str(interrupted), "--offline", str(tmp_path))
    assert done.returncode == 0, done.stderr
    logged = history(inspected(tmp_path / "run"))
    for step, row in read_rows(interrupted / "metrics.jsonl").by_step.items():
        assert logged[step]["clips_seen"] == row["clips_seen"]
    assert not (interrupted / "wandb" / "synced.json").exists()
