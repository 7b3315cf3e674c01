"""What a process does about its job: signals, time limit, lock, cores, errors of other ranks."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slotreel.errors import ConfigError
from slotreel.files import held
from slotreel.runtime import job
from slotreel.runtime.logging import setup_logging
from slotreel.runtime.signals import StopFlag, ignore_time_limit

CPU = torch.device("cpu")
SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}


def told(*signals: signal.Signals) -> tuple[bool, int]:
    """Whether the loop must return after these signals, and the exit code."""
    with StopFlag() as stop:
        for number in signals:
            os.kill(os.getpid(), number)
        assert stop.hit
        number = stop.agree(CPU)
        assert not stop.hit
        return stop.hand_over(number, is_main=True), stop.exit_code


@pytest.mark.parametrize("slurm", [False, True])
def test_sigterm_ends_a_run_but_not_a_job(monkeypatch: pytest.MonkeyPatch, slurm: bool) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value) if slurm else monkeypatch.delenv(name, raising=False)
    assert told(signal.SIGTERM) == ((False, 0) if slurm else (True, 143))


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR2])
def test_the_time_limit_counts_more_than_sigterm(
    monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    """Both come when a job is preempted near its limit; only USR2 puts it back into the queue."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    second = ({signal.SIGTERM, signal.SIGUSR2} - {first}).pop()
    assert told(first, second) == (True, 128 + signal.SIGUSR2)  # nobody here to requeue


def test_a_job_that_may_not_be_requeued_says_how_to_go_on() -> None:
    from submitit.core.utils import UncompletedJobError

    def submitit(number: int, frame: object) -> None:
        raise UncompletedJobError("Job not requeued because: timed-out too many times.")

    before = signal.signal(signal.SIGUSR2, submitit)
    try:
        with pytest.raises(ConfigError, match=r"too many times.*resume=RUN"):
            told(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_after_training_the_time_limit_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    ignore_time_limit()
    try:
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN  # survives Python's own end
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_joining_a_submitit_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Element 3 of an array, on the second of two nodes."""
    facts = {
        "SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(tmp_path), "SLURM_JOB_ID": "47",
        "SLURM_ARRAY_JOB_ID": "44", "SLURM_ARRAY_TASK_ID": "3", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node[07-08]",
    }  # fmt: skip
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    leftover = tmp_path / "44_3_submitted.pkl.save_tmp"  # submitit refuses to write beside it
    other = tmp_path / "44_2_submitted.pkl.save_tmp"
    for path in (leftover, other):
        path.touch()
    job.join_submitit()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "4")
    assert os.environ["MASTER_ADDR"] == "node07"
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 32768
    assert not leftover.exists()
    assert other.exists(), "another job may be writing it"


@given(limit=st.integers(1, 5000), delay=st.integers(0, 10_000))
def test_a_time_limit_is_long_enough_or_what_to_type_is(limit: int, delay: int) -> None:
    launcher = {"timeout_min": limit, "signal_delay_s": delay}
    try:
        job.check_time_limit(launcher)
    except ConfigError as error:
        (enough,) = re.findall(r"timeout_min=(\d+) or more", str(error))
        assert int(enough) > limit
        job.check_time_limit(launcher | {"timeout_min": int(enough)})
    else:
        assert 60 * limit - delay >= 90


def test_cores_are_the_share_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    assert 1 <= job.cpus() <= (os.cpu_count() or 1)  # a shell inside a job, or no job at all
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert job.cpus() == 3


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    taken, released = threading.Event(), threading.Event()

    def former_attempt() -> None:
        with held(tmp_path / "lock"):
            taken.set()
            released.wait()

    thread = threading.Thread(target=former_attempt)
    thread.start()
    taken.wait()
    with held(tmp_path / "lock") as free:
        assert not free
    threading.Timer(0.1, released.set).start()
    with held(tmp_path / "lock", patience_s=60) as free:
        assert free
    thread.join()


def test_errors_of_other_ranks_stand_in_the_log_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(tmp_path, 1)
    log = logging.getLogger("slotreel.test")
    log.info("a word")
    log.error("a failure")
    setup_logging(None, 0)
    own, shared = ((tmp_path / name).read_text() for name in ("rank1.log", "train.log"))
    assert "a word" in own
    assert "a failure" in own
    assert "a word" not in shared
    assert "rank 1: a failure" in shared
    said = capsys.readouterr().err
    assert "rank 1: a failure" in said
    assert "a word" not in said
