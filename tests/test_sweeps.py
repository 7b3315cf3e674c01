"""Sweeps: names, points composed and judged, states, bounded processes, copies of the code."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from scripts import fetch, sweep
from slotreel.errors import CheckpointError, ConfigError
from slotreel.files import write_json
from slotreel.layers import timm_networks
from slotreel.resume import reconcile, settle
from slotreel.sweeps import local, snapshot
from slotreel.sweeps.names import LONGEST, point_name, sweep_name
from slotreel.sweeps.plan import compose_points, judge
from slotreel.sweeps.state import add_jobs, add_points, states
from tests import running

SMALL = [o for o in running.TINY if o not in ("debug=tiny", "decoder.hidden_dim=16")]
keys = st.sampled_from(["grouper", "num_slots", "losses", "optim.lr", "dataset.source.seed"])
values = st.text(min_size=1, max_size=130).filter(lambda text: "," not in text)
typed = st.dictionaries(keys, values).map(lambda d: [f"{key}={value}" for key, value in d.items()])


@settings(max_examples=25)
@given(typed, st.randoms())
def test_names_are_file_names_whatever_the_order(overrides: list[str], draw: object) -> None:
    name = point_name(overrides, 3)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+,-]*_seed3", name), name
    assert len(name) <= LONGEST + len("_seed3")
    draw.shuffle(overrides)  # type: ignore[attr-defined]
    assert point_name(overrides, 3) == name


@settings(max_examples=40)
@given(typed, typed)
def test_names_are_equal_only_for_equal_points(one: list[str], other: list[str]) -> None:
    assert (point_name(one, 0) == point_name(other, 0)) == (sorted(one) == sorted(other))


def test_names_say_what_was_typed_and_not_where_it_runs() -> None:
    place = ["paths.runs=/x", "trainer.device=cpu", "logger=none", "sweep_name=a", "cluster=b"]
    assert point_name(["seed=1", "+optim.lr=1", "grouper=smtc", *place], 1) == (
        "grouper=smtc,optim.lr=1_seed1"
    )
    assert point_name(["losses=[feature_rec,slot_contrast]"], 0) == (
        "losses=feature_rec+slot_contrast_seed0"
    )
    assert point_name(place, 4) == "default_seed4"


def test_more_seeds_or_another_machine_are_the_same_sweep() -> None:
    base = sweep_name(["grouper=a,b", "seed=0,1"], ["grouper", "seed"], None)
    assert re.fullmatch(r"grouper_[0-9a-f]{8}", base)
    more = ["seed=0,1,2", "trainer.device=cuda", "grouper=a,b"]
    assert sweep_name(more, ["seed", "grouper"], None) == base
    assert sweep_name(["grouper=a,c", "seed=0,1"], ["grouper", "seed"], None) != base
    assert sweep_name(["num_slots=8"], [], "grouper_x_seed") == "grouper_x_seed"
    assert sweep_name(["sweep_name=mine"], [], "grouper_x_seed") == "mine"


@pytest.mark.parametrize("name", ["a/b", "../a", ".hidden", "a b", "x" * (LONGEST + 1)])
def test_a_name_that_is_no_folder_is_refused_with_one_that_is(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        sweep_name([f"sweep_name={name}"], [], None)
    instead = str(error.value).rpartition("=")[2]
    assert sweep_name([f"sweep_name={instead}"], [], None) == instead


def whole(overrides: Sequence[str]) -> DictConfig:
    """The configuration with Hydra's part."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(running.CONF), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    return cfg


def test_every_point_is_composed_and_judged(tmp_path: Path) -> None:
    rows = [[*SMALL, f"decoder={decoder}", f"seed={seed}"] for decoder in ("mlp", "none")
            for seed in (0, 1)]  # fmt: skip
    rows.append([*SMALL, "num_slotss=3"])
    points, wrong = compose_points(rows, whole, tmp_path)
    assert [p.name[-6:] for p in points] == ["_seed0", "_seed1"] * 2
    assert "num_slotss" in next(iter(wrong.values()))
    refused = judge(points, tmp_path, ranks=1)
    assert list(refused) == [p.name for p in points[2:]]
    assert all("type decoder=mlp" in message for message in refused.values())
    assert "must be divisible by 3" in judge(points[:1], tmp_path, ranks=3)[points[0].name]
    assert not any(tmp_path.iterdir())


def test_points_without_data_and_points_typed_twice_are_refused(tmp_path: Path) -> None:
    row = ["dataset=davis2016", f"paths.data={tmp_path}"]
    points, wrong = compose_points([row, row], whole, tmp_path)
    assert "more than once" in wrong[points[0].name]
    assert "scripts/prepare.py davis2016" in judge(points[:1], tmp_path, 1)[points[0].name]


def test_one_bad_point_and_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--multirun", f"paths.runs={tmp_path}", "sweep_name=s", "logger=none",
                 "decoder=mlp,none", "seed=0,1"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(running.ROOT / "train.py"), run_name="__main__")
    GlobalHydra.instance().clear()
    said = capfd.readouterr()
    assert stop.value.code == 1
    assert f"sweep s: 4 runs in {tmp_path}/sweeps/s\n  decoder=mlp_seed0" in said.out
    assert "2 of 4 points cannot run, so none was started" in said.err
    assert "decoder=none_seed0, decoder=none_seed1:\n    losses." in said.err
    assert not any(tmp_path.iterdir())


def write_run(run: Path, log: str = "", **files: object) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("trainer: {num_steps: 20}\n")
    (run / "train.log").write_text(log)
    for name, content in files.items():
        (run / name.replace("_", ".")).write_text(json.dumps(content) + "\n")


START = "2026-01-01 10:00:00,000 INFO slotreel.main: run directory x\n"
ERROR = "2026-01-01 10:30:00,000 ERROR slotreel.command: it broke\n"


def test_states_of_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweeps" / "s"
    names = ("done", "short", "bad", "held", "waits", "runs", "new")
    add_points(folder, {name: [] for name in names})
    add_points(folder, {"done": ["again=1"]})  # typed again
    queue = tmp_path / "squeue"
    queue.write_text("#!/bin/sh\necho '7_0 PENDING'\necho '7_1 RUNNING'\n")
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    add_jobs(folder, {"waits": "7_0", "runs": "7_1", "bad": "6_0"})
    rows = [{"kind": "trivial", "means": {"jf": 0.9}}, {"kind": "last", "means": {"jf": 0.5}}]
    scores = {"step": 20, "sets": {"a": {"p": {"rows": rows}}}}
    again = START.replace("10:", "12:") + ERROR.replace("10:30", "12:15").replace("ERROR", "INFO")
    write_run(folder / "done", START + ERROR + again, scores_json=scores)
    write_run(folder / "short", START + ERROR + START, scores_json={**scores, "step": 10})
    write_run(folder / "bad", START + ERROR, metrics_jsonl={"step": 7})
    write_run(folder / "held")
    with open(folder / "held" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = {row.name: row for row in states(folder)}
        assert sweep.main(["s", "--runs", str(tmp_path)]) == 0
    assert {name: row.state for name, row in found.items()} == {
        "done": "finished", "short": "failed", "bad": "failed", "held": "running",
        "waits": "queued", "runs": "running", "new": "missing",
    }  # fmt: skip
    assert found["done"].hours == pytest.approx(0.75)
    assert found["done"].score == "jf 50.0"
    assert found["bad"].step == 7
    assert found["bad"].error.startswith("it broke")
    assert found["short"].error.startswith("stopped without")
    out = capsys.readouterr().out
    assert re.search(r"done +finished +20 +0\.75  jf 50\.0", out)
    assert "1 finished, 2 running, 1 queued, 2 failed, 1 missing" in out
    assert sweep.main(["t", "--runs", str(tmp_path)]) == 1
    assert "has no sweep t; " in capsys.readouterr().err


def shell(folder: Path, name: str, text: str) -> local.Job:
    return local.Job(name, ["sh", "-c", text], folder / name / "console.log")


def test_processes_are_bounded_and_a_failure_stops_nothing(tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/busy || exit 9; sleep 0.05; rmdir {tmp_path}/busy"
    jobs = [shell(tmp_path, f"j{i}", alone + (";exit 3" if i == 1 else "")) for i in range(4)]
    told: list[str] = []
    ended = local.Pool(1, [{}], told.append).run(jobs)
    assert [(e.job.name, e.code) for e in ended] == [("j0", 0), ("j1", 3), ("j2", 0), ("j3", 0)]
    assert told[3].startswith("exit code 3: j1")


def test_processes_know_their_place_and_log(tmp_path: Path) -> None:
    slots = local.places(2, ["4", "7"], cores=8)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["4", "7"]
    say = "echo on $CUDA_VISIBLE_DEVICES; sleep 0.3"
    local.Pool(2, slots, print).run([shell(tmp_path, name, say) for name in ("a", "b")])
    said = {(tmp_path / name / "console.log").read_text() for name in ("a", "b")}
    assert said == {"on 4\n", "on 7\n"}
    machines = [(3, 0, 2), (None, 2, 64), (None, 0, 8), (None, 0, 1)]
    assert [local.at_a_time(*machine) for machine in machines] == [3, 2, 4, 1]


def test_a_point_that_another_sweep_runs_is_left_alone(tmp_path: Path) -> None:
    job = shell(tmp_path, "a", "exit 1")
    job.log.parent.mkdir()
    told: list[str] = []
    with open(job.log, "ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert local.Pool(1, [{}], told.append).run([job]) == []
    assert "another sweep" in told[0]


def test_ctrl_c_is_passed_on_and_nothing_more_starts(tmp_path: Path) -> None:
    jobs = [shell(tmp_path, name, f"touch {tmp_path}/{name}.on; exec sleep 60") for name in "ab"]
    pool = local.Pool(1, [{}], lambda _: None)

    def interrupt() -> None:
        while not (tmp_path / "a.on").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    ended = pool.run(jobs)
    assert [e.code for e in ended] == [-signal.SIGINT]
    assert pool.stopped == signal.SIGINT
    assert not (tmp_path / "b.on").exists()


def test_a_copy_keeps_what_is_edited_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, mine = tmp_path / "repo", tmp_path / "mine"
    for path in ("src/slotreel/a.py", "src/__pycache__/a.pyc", "conf/train.yaml", "train.py"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("1")
    mine.mkdir()
    monkeypatch.setattr(snapshot, "ROOT", root)
    monkeypatch.setattr(snapshot, "CONF", root / "conf")
    first = snapshot.take(tmp_path / "sweep", [mine])
    assert snapshot.take(tmp_path / "sweep", [mine]) == first
    assert {p.name for p in first.iterdir()} == {
        "src", "conf", "train.py", "config_dir_0", "code.json", "code.patch",
    }  # fmt: skip
    assert not list(first.rglob("*.pyc"))
    (root / "src" / "slotreel" / "a.py").write_text("2")
    second = snapshot.take(tmp_path / "sweep", [mine])
    assert [(copy / "src/slotreel/a.py").read_text() for copy in (first, second)] == ["1", "2"]


def test_the_same_command_goes_on_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: called.append(arguments))
    monkeypatch.setattr(sys, "argv", ["/repo/train.py"])
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv(snapshot.MARK, "")
    snapshot.restart(
        tmp_path, ["-m", "--config-dir=a/conf", "x=a/conf", "-cd", "b"], ["a/conf", "b"]
    )
    assert called[0][1:] == [
        f"{tmp_path}/train.py", "-m", f"--config-dir={tmp_path}/config_dir_0", "x=a/conf",
        "-cd", f"{tmp_path}/config_dir_1",
    ]  # fmt: skip
    assert os.environ["PYTHONPATH"] == f"{tmp_path}/src:/mine"


def test_a_cluster_file_chooses_and_sets_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "me")
    cfg = whole(["cluster=example", "hydra.launcher.qos=long"])
    assert cfg.hydra.launcher._target_.endswith("SlurmLauncher")
    assert (cfg.hydra.launcher.qos, cfg.hydra.launcher.tasks_per_node) == ("long", 4)
    assert cfg.hydra.launcher.wait is False
    assert cfg.paths.runs == "/scratch/me/runs"


def test_fetching_says_what_it_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object) -> None:
        raise CheckpointError("no network; type backbone.weights=FILE")

    monkeypatch.setattr(timm_networks, "fetch", offline)
    small = ["backbone=dinov2_vits14", "image_size=56", "+backbone.model_args.depth=1"]
    assert fetch.main([*small, "init_from=hub:nothing"]) == 1
    out = capsys.readouterr().out
    assert "FAILED   backbone vit_small_patch14_dinov2.lvd142m: no network; type" in out
    assert "FAILED   init_from=hub:nothing: hub: has no checkpoint nothing" in out
    assert "there    training data: 16000 videos" in out
    monkeypatch.setattr(
        timm_networks, "fetch", lambda name, args, _: timm_networks.create(name, args)
    )
    assert fetch.main(small) == 0
    assert "fetched  backbone vit_small" in capsys.readouterr().out


def test_judging_leaves_logging_as_it_was(tmp_path: Path) -> None:
    level = logging.getLogger("slotreel").level
    judge([], tmp_path, 1)
    assert logging.getLogger("slotreel").level == level


def test_a_launcher_that_is_typed_wins() -> None:
    for words, kind in (([], "Local"), (["hydra/launcher=slurm"], "Slurm")):
        assert whole(words).hydra.launcher._target_.endswith(f"{kind}Launcher")
    slurm = whole(["cluster=example", "hydra/launcher=slurm", "hydra.launcher.wait=true"])
    assert slurm.hydra.launcher.wait is True


def test_a_point_begun_with_another_configuration_is_refused_with_its_keys(tmp_path: Path) -> None:
    row = [*SMALL, "seed=1"]
    (point,), _ = compose_points([row], whole, tmp_path)
    run = tmp_path / point.name
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step_000000020.pt").touch()
    stored = point.cfg.copy()
    stored.num_slots, stored.trainer.device, stored.paths.runs = 11, "mps", "/elsewhere"
    OmegaConf.save(stored, run / "config.yaml")
    write_json(run / "scores.json", {"step": stored.trainer.num_steps, "sets": {}})
    (point,), _ = compose_points([row], whole, tmp_path)
    assert point.state.state == "finished"
    message = judge([point], tmp_path, 1)[point.name]
    assert "num_slots: 11 -> 6" in message
    assert "mps" not in message
    assert "/elsewhere" not in message
    stored.num_slots = 6
    OmegaConf.save(stored, run / "config.yaml")
    assert judge([point], tmp_path, 1) == {}


def test_a_requeued_clone_is_compared_with_its_own_configuration(tmp_path: Path) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    cfg = running.composed("train", "num_slots=9", "trainer.num_steps=7", directory=run)
    other.mkdir()
    OmegaConf.save(cfg, other / "config.yaml", resolve=True)
    typed = [f"clone={other}", "seed=3"]
    first, resuming = settle(running.composed("train", *typed, directory=run), run, typed)
    assert (first.num_slots, first.seed, resuming) == (9, 3, False)
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step_000000002.pt").touch()
    OmegaConf.save(first, run / "config.yaml", resolve=True)
    again, resuming = settle(running.composed("train", *typed, directory=run), run, typed)
    assert (again.num_slots, again.seed, again.trainer.num_steps, resuming) == (9, 3, 7, True)


def test_a_long_list_of_changed_keys_is_counted() -> None:
    old = OmegaConf.create({f"k{i:02d}": 0 for i in range(15)})
    new = OmegaConf.create({f"k{i:02d}": 1 for i in range(15)})
    with pytest.raises(ConfigError, match=r"k11: 0 -> 1\n  and 3 more"):
        reconcile(new, old, None)
