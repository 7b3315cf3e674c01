"""One rank fails, dies, hangs or never comes: the whole job ends and says which."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slotreel.errors import ConfigError
from slotreel.runtime.distributed import joined
from slotreel.training import loop
from tests import running
from tests.processes import SMALL, Ranks

LIMIT_S = 6
FEW = (
    "trainer.num_steps=8",
    "trainer.save_every=2",
    f"trainer.timeout_minutes={LIMIT_S / 60}",
)
PATIENCE_S = 240  # of the test, on a machine with much else to do


def fail() -> None:
    raise ArithmeticError("this rank was asked to fail")


def leave() -> None:
    os._exit(3)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    while True:
        time.sleep(1)


def disturb(rank: int, act: Callable[[], None]) -> None:
    """At step 3, ``rank`` does ``act`` in place of training."""
    original = loop._train_step

    def stepping(run: Any, *rest: Any) -> bool:
        if run.state.step == 3 and run.world.rank == rank:
            act()
        return original(run, *rest)

    loop._train_step = stepping


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "act", "said"),
    [
        (1, fail, "rank 1 failed:\nTraceback"),
        (0, fail, "rank 0 failed:\nTraceback"),
        (1, leave, "rank 1 did not answer: killed"),
        (0, killed, "rank 0 did not answer: killed"),
        (1, killed, "rank 1 did not answer: killed"),
        (1, hang, f"within trainer.timeout_minutes={LIMIT_S / 60:g}. It was here:"),
        (0, hang, f"within trainer.timeout_minutes={LIMIT_S / 60:g}. It was here:"),
    ],
)
def test_nobody_supervises(tmp_path: Path, rank: int, act: Callable[[], None], said: str) -> None:
    ranks = Ranks(tmp_path / "run", FEW, 2, functools.partial(disturb, rank, act))
    codes = ranks.wait(PATIENCE_S)
    other = ranks.said(1 - rank)
    assert None not in codes
    assert 0 not in codes
    assert said in other
    assert "resume=RUN" in other
    if act is fail:
        assert "ArithmeticError: this rank was asked to fail" in other
    if act is hang:
        assert f"rank {rank} hangs" in other
        assert "in hang" in other
        assert f"rank {1 - rank} waited for this one in vain" in ranks.said(rank)
        assert "This rank was here:" in ranks.said(rank)


@pytest.mark.slow
def test_ranks_that_only_waited_are_not_blamed(tmp_path: Path) -> None:
    three = (*FEW, "trainer.batch_size=6")
    ranks = Ranks(tmp_path / "run", three, 3, functools.partial(disturb, 1, hang))
    assert 0 not in ranks.wait(PATIENCE_S)
    for rank in (0, 2):
        assert "rank 1 hangs" in ranks.said(rank)
        assert f"rank {2 - rank} hangs" not in ranks.said(rank)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0, 1])
def test_a_rank_that_never_starts(tmp_path: Path, missing: int) -> None:
    ranks = Ranks(tmp_path / "run", FEW, 2, missing=[missing])
    assert ranks.wait(PATIENCE_S) == [1]
    said = ranks.said(1 - missing)
    assert ("rank 1 of 2 did not start" if missing else "could not reach rank 0") in said
    assert "trainer.timeout_minutes" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("fail", "rank 1: Traceback"),
        ("killed", "rank 1 did not answer: killed"),
        ("hang", "rank 1 hangs: it did not come"),
    ],
)
def test_under_torchrun(tmp_path: Path, act: str, said: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from tests import running, test_ranks\n"
        "torch.set_num_threads(1)\n"
        f"test_ranks.disturb(1, test_ranks.{act})\n"
        "running.train(Path(sys.argv[1]), *sys.argv[2:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
         "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0",
         str(script), str(tmp_path / "run"), *SMALL, *FEW],
        capture_output=True, text=True, timeout=PATIENCE_S, cwd=running.ROOT,
        env=running.environment(),
    )  # fmt: skip
    assert done.returncode != 0
    assert said in done.stderr
    assert said in (tmp_path / "run" / "train.log").read_text()


def test_no_time_to_wait_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match=r"type trainer\.timeout_minutes=10"),
        joined("cpu", timeout_minutes=0),
    ):
        pass
