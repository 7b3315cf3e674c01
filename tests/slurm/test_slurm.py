"""Sweeps on a real SLURM: signals, preemption, lost nodes, time limits, failures.

Every scenario is a sweep of its own that somebody disturbs. All of them go on at the same time, in
threads that only wait; each test asks one scenario how it ended.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from slotreel.training import checkpoint
from tests import running
from tests.slurm.cluster import Cluster, Job, Sweep, cluster, missing, wait_for

log = logging.getLogger(__name__)
REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
STEPS = 40
RUN = (
    f"trainer.num_steps={STEPS}", "trainer.log_every=1", "trainer.save_every=10",
    "trainer.device=cpu", "losses=[colour_rec,slot_contrast,slow]",
    "hydra.launcher.cpus_per_task=1",
)  # fmt: skip
NO_GPU = ("hydra.launcher.gpus_per_node=null", "hydra.launcher.tasks_per_node=2")


class Outcome(NamedTuple):
    """How a scenario ended."""

    code: int  # of the launcher
    said: str  # by it
    jobs: list[Job]
    runs: list[Path]


def start(slurm: Cluster, name: str, *overrides: str, step_s: float = 0.0) -> Sweep:
    return slurm.sweep(name, *RUN, f"losses.slow.seconds={step_s}", *overrides)


def swept(slurm: Cluster) -> Sweep:
    """Two points with two tasks each and a (pretended) GPU for every task.

    The first, quick one is left alone; the second, slow one gets USR2.
    """
    sweep = slurm.sweep(
        "swept", *RUN, "hydra.launcher.gpus_per_node=2", "losses.slow.seconds=0,0.3"
    )
    sweep.reached(5, 1)
    slurm.run("scancel", "--signal=USR2", sweep.jobs()[1].id)
    return sweep


def preempted(slurm: Cluster) -> Sweep:
    """A partition of higher priority takes the node."""
    sweep = start(slurm, "preempted", *NO_GPU, "hydra.launcher.partition=spot", step_s=0.7)
    sweep.reached(4)
    slurm.run("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
    return sweep


def node_lost(slurm: Cluster) -> Sweep:
    sweep = start(slurm, "node_lost", *NO_GPU, "hydra.launcher.partition=fragile", step_s=0.3)
    sweep.reached(5)
    assert sweep.jobs()[0].nodes == "127.0.0.4"
    slurm.run("scontrol", "update", "NodeName=127.0.0.4", "State=DOWN", "Reason=test")
    return sweep


def timed_out(slurm: Cluster) -> Sweep:
    """SLURM itself sends USR2, 30 to 90 s before the limit of two minutes, to both nodes."""
    limit = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30")
    spread = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1")
    sweep = start(slurm, "timed_out", *NO_GPU, *limit, *spread, step_s=2.5)
    sweep.reached(1)
    return sweep


def failed(slurm: Cluster) -> Sweep:
    return slurm.sweep("failed", *RUN, *NO_GPU, "losses=[colour_rec,slot_contrast,failing]")


def cancelled(slurm: Cluster) -> Sweep:
    sweep = start(slurm, "cancelled", *NO_GPU, "hydra.launcher.tasks_per_node=1", step_s=0.5)
    sweep.reached(5)
    slurm.run("scancel", sweep.jobs()[0].id)
    return sweep


SCENARIOS = (preempted, node_lost, swept, cancelled, failed)
Scenario = Callable[[Cluster], Sweep]
Ask = Callable[[Scenario], Outcome]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm") / "slurm") as running_cluster:
        yield running_cluster


@pytest.fixture(scope="module")
def ended(slurm: Cluster) -> Iterator[Ask]:
    """Starts every scenario; calling it waits for one."""

    def finish(sweep: Sweep, began: float) -> Outcome:
        code = sweep.wait()
        log.info("%s ended after %.0f s", sweep.name, time.monotonic() - began)
        return Outcome(code, sweep.said(), sweep.jobs(), sweep.runs())

    def play(scenario: Scenario) -> Outcome:
        began = time.monotonic()
        return finish(scenario(slurm), began)

    began = time.monotonic()
    longest = timed_out(slurm)  # must be at work before its limit: the others take the cores
    with ThreadPoolExecutor(len(SCENARIOS) + 1) as threads:
        futures = {scenario: threads.submit(play, scenario) for scenario in SCENARIOS}
        futures[timed_out] = threads.submit(finish, longest, began)
        yield lambda scenario: futures[scenario].result()
        slurm.closed.set()


def numbers(run: Path) -> dict[str, Any]:
    """Everything a disturbance must not move: weights, optimizer, every logged value."""
    content = checkpoint.read(checkpoint.checkpoint_path(run, STEPS))
    clock = ("perf/", "gpu_hours")
    rows = {
        step: {k: v for k, v in row.items() if not k.startswith(clock)}
        for step, row in running.metrics(run).items()
    }
    kept = {k: content[k] for k in ("objective", "optimizer", "best", "evaluated_step")}
    return kept | {"rows": rows}


def assert_same_numbers(ended: Ask, outcome: Outcome) -> None:
    """Every run of the scenario finished, and as the one that was left alone."""
    assert outcome.code == 0, outcome.said
    assert {job.state for job in outcome.jobs} == {"COMPLETED"}
    whole = numbers(ended(swept).runs[0])
    for run in outcome.runs:
        assert json.loads((run / "scores.json").read_text())
        torch.testing.assert_close(numbers(run), whole, rtol=0, atol=0)


def log_of(run: Path) -> str:
    return (run / "train.log").read_text()


def test_two_points_with_two_tasks_each(ended: Ask) -> None:
    outcome = ended(swept)
    assert outcome.code == 0, outcome.said
    assert len(outcome.runs) == 2
    for run in outcome.runs:
        assert (run / "scores.json").exists()
        assert (run / "rank1.log").exists()
        assert "rank 1" not in log_of(run)


def test_usr2_saves_requeues_and_resumes(ended: Ask) -> None:
    outcome = ended(swept)
    assert [job.restarts for job in outcome.jobs] == [0, 1]
    assert [log_of(run).count("told to stop (SIGUSR2)") for run in outcome.runs] == [0, 1]
    assert [log_of(run).count("resumed") for run in outcome.runs] == [0, 1]
    assert_same_numbers(ended, outcome)


def test_usr2_does_not_kill_a_program_that_starts(slurm: Cluster) -> None:
    launcher = OmegaConf.load(running.CONF / "hydra" / "launcher" / "slurm.yaml")
    program = subprocess.Popen(
        ["srun", "-J", "early", *launcher.srun_args, "sleep", "4"],
        cwd=slurm.folder, env=slurm.environment,
    )  # fmt: skip
    wait_for("the job", lambda: "RUNNING" in slurm.run("squeue", "-h", "-n", "early", "-o", "%T"))
    time.sleep(1)
    slurm.run("scancel", "--signal=USR2", "-n", "early")
    assert program.wait(60) == 0


def test_preempted(ended: Ask) -> None:
    outcome = ended(preempted)
    assert [job.restarts for job in outcome.jobs] == [1]
    (run,) = outcome.runs
    log = log_of(run)
    assert "told to stop (SIGTERM)" in log
    assert "told to stop (SIGUSR2)" not in log
    saved = int(log.split("told to stop (SIGTERM): saved step ")[1].split()[0])
    trained_on = [row for row in running.lines(run) if "train/loss" in row and row["step"] > saved]
    assert len(trained_on) > STEPS - saved, "it did not train on until it was killed"
    assert_same_numbers(ended, outcome)


def test_node_lost(ended: Ask) -> None:
    outcome = ended(node_lost)
    assert [(job.restarts, job.nodes) for job in outcome.jobs] == [(1, "127.0.0.2")]
    assert_same_numbers(ended, outcome)


def test_out_of_time(ended: Ask) -> None:
    outcome = ended(timed_out)
    assert outcome.jobs[0].restarts >= 1  # more where starting takes most of two minutes
    assert "told to stop (SIGUSR2)" in log_of(outcome.runs[0])
    assert_same_numbers(ended, outcome)


def test_a_rank_that_fails(ended: Ask) -> None:
    outcome = ended(failed)
    assert outcome.code == 1
    assert [(job.state, job.restarts) for job in outcome.jobs] == [("FAILED", 0)]
    for text in (log_of(outcome.runs[0]), (outcome.runs[0] / "rank1.log").read_text()):
        assert "ArithmeticError: this rank was asked to fail" in text
        assert 'losses.py", line' in text
    assert "rank 1: Traceback" in log_of(outcome.runs[0])


def test_cancelled_stays_cancelled(ended: Ask) -> None:
    outcome = ended(cancelled)
    assert outcome.code == 1
    assert [(job.state, job.restarts) for job in outcome.jobs] == [("CANCELLED", 0)]
    assert checkpoint.steps_saved(outcome.runs[0]), "SIGTERM saves"
