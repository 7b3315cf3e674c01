"""Killed at random instants, a run ends with the numbers of an undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from slotreel.training import checkpoint
from tests import running

STEPS = ("trainer.num_steps=120", "trainer.save_every=7", "trainer.log_every=20")


def start(directory: Path) -> subprocess.Popen[bytes]:
    script = running.script(directory)
    return subprocess.Popen(
        [sys.executable, str(script), str(directory), *STEPS],
        cwd=running.ROOT, env=running.environment(),
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_instants(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    running.train(whole, *STEPS)
    code, kills = 1, 0
    while code != 0:
        assert kills < 12, "never finished"
        process = start(broken)
        if kills < 4:
            saved = len(checkpoint.steps_saved(broken)) if broken.exists() else 0
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:  # let it train a little
                now = checkpoint.steps_saved(broken) if broken.exists() else []
                if len(now) > saved or now:
                    break
                time.sleep(0.05)
            time.sleep(6 * draw.random())
            process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        code = process.wait(120)
        kills += 1
    a, b = (checkpoint.read(checkpoint.checkpoint_path(d, 120)) for d in (whole, broken))
    for name, value in a["objective"].items():
        assert torch.equal(value, b["objective"][name]), name
    assert a["best"] == b["best"]
