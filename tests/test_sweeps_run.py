"""A sweep as a user types it: killed, interrupted, edited under, typed again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slotreel.files import is_held
from slotreel.sweeps.state import states
from slotreel.training import checkpoint
from tests import running

POINTS = ("grouper=slot_attention,cross_attention", "seed=0,1", "sweep_name=s")
SMALL = (*running.TINY, "trainer.num_steps=100", "hydra.launcher.n_jobs=2")


def start(runs: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(running.ROOT / "train.py"), "--multirun", *POINTS, *SMALL]
    return subprocess.Popen(
        [*command, f"paths.runs={runs}", *more], text=True, cwd=running.ROOT,
        env=running.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def training(folder: Path, process: subprocess.Popen[str]) -> Path:
    """A point that is being trained and has saved, once there is one."""
    while process.poll() is None:
        for run in folder.glob("*_seed*"):
            if is_held(run / ".lock") and checkpoint.steps_saved(run):
                return run
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def pid_of(run: Path) -> int:
    """The process whose command line names this run directory."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"hydra.run.dir='{run}'".encode() in words:
            return int(entry.name)
    raise AssertionError(f"nothing runs in {run}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_interrupted_and_typed_again(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"

    # one is killed: the others are finished, the sweep says what failed
    first = start(tmp_path, "hydra.launcher.snapshot=true")
    killed = training(folder, first)
    pid = pid_of(killed)
    program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1].decode()
    assert Path(program).parent.parent == folder / "code"
    os.kill(pid, signal.SIGKILL)
    out, err = first.communicate(timeout=400)
    assert first.returncode == 1, err
    assert "sweep s: 4 runs in" in out
    assert f"1 of 4 runs failed:\n  {killed.name}: " in err
    assert str(killed / "train.log") in err
    assert sorted(row.state for row in states(folder)) == ["failed", *["finished"] * 3]
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*/scores.json")}

    # typed again: that one goes on, is interrupted, and the sweep says so
    second = start(tmp_path)
    assert training(folder, second) == killed
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=200)
    assert second.returncode == 130, err
    assert out.count("finished, skipped") == 3
    assert "failed, goes on from about step" in out
    assert "type the same again" in out

    # and again: it goes on, nothing was trained twice
    third = start(tmp_path)
    out, err = third.communicate(timeout=400)
    assert third.returncode == 0, err
    assert [row.state for row in states(folder)] == ["finished"] * 4
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert "resumed" in (killed / "train.log").read_text()
