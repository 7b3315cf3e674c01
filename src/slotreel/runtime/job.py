"""What SLURM and submitit say about this process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from slotreel.errors import ConfigError

_EARLY_S, _START_S = 60, 30


def under_slurm() -> bool:
    """Whether this process is a task of a SLURM job (and not merely on a machine with SLURM)."""
    return "SLURM_JOB_ID" in os.environ and "SLURM_PROCID" in os.environ


def restarted() -> bool:
    """Whether this job ran before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def patience_s() -> float:
    """How long to wait for this job's former processes, which may still be dying elsewhere."""
    return 120.0 if restarted() else 0.0


def cpus() -> int:
    """CPU cores this process may use: its share of a SLURM job, or what the machine lets it use."""
    share = os.environ.get("SLURM_CPUS_PER_TASK")
    if share is not None and under_slurm():
        return int(share)
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def join_submitit() -> None:
    """Say in torchrun's variables what submitit knows (one task per rank); remove its leftovers.

    Does nothing outside a submitit job.
    """
    import submitit

    try:
        env = submitit.JobEnvironment()
    except RuntimeError:  # the launcher's parent process
        return
    port = 20000 + int(env.raw_job_id) % 12000  # below the ports that systems hand out
    os.environ.update(
        RANK=str(env.global_rank), WORLD_SIZE=str(env.num_tasks), LOCAL_RANK=str(env.local_rank)
    )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1" if env.num_nodes == 1 else env.hostnames[0])
    os.environ.setdefault("MASTER_PORT", str(port))
    for pickle in (env.paths.submitted_pickle, env.paths.result_pickle):
        if env.global_rank == 0:  # half-written when killed; submitit would refuse to write again
            pickle.with_name(f"{pickle.name}.save_tmp").unlink(missing_ok=True)


def check_time_limit(launcher: Mapping[str, Any]) -> None:
    """Refuse a time limit whose signal would come before training could listen.

    Args:
        launcher: ``hydra.launcher``.

    Raises:
        ConfigError: the limit is shorter than the signal's delay, the 60 s SLURM may be early, and
            30 s to start.
    """
    delay, limit = launcher.get("signal_delay_s"), launcher.get("timeout_min")
    if delay is None or limit is None or 60 * limit >= delay + _EARLY_S + _START_S:
        return
    raise ConfigError(
        f"hydra.launcher.timeout_min={limit} is too short for signal_delay_s={delay}: SLURM may "
        f"signal {_EARLY_S} s early, and the run must have started by then; type "
        f"hydra.launcher.timeout_min={-(-(delay + _EARLY_S + _START_S) // 60)} or more, or a "
        "smaller hydra.launcher.signal_delay_s"
    )
