"""A SLURM of our own: a controller and four virtual nodes on this machine, gone afterwards.

No munge, systemd, cgroup or database (slurm.conf).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests import running

HERE = Path(__file__).parent
STOPPED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"}
NODES = tuple(f"127.0.0.{n}" for n in range(1, 5))
GPUS = "".join(f"NodeName={n} Name=gpu File=/dev/{d}\n" for n in NODES for d in ("null", "zero"))
# Where Debian keeps daemons, which not every shell's PATH names.
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
# Without a database sacct refuses to answer, and submitit would wait for a killed job forever.
SACCT = '#!/bin/sh\necho "JobID|State|NodeList"\nexec squeue -h -a -t all -o "%i|%T|%N"\n'


class Job(NamedTuple):
    """A row of squeue."""

    id: str
    state: str
    restarts: int
    nodes: str


def missing() -> str | None:
    """What keeps this machine from running a SLURM of its own; None if nothing does."""
    for program in ("slurmctld", "slurmd", "srun", "setpriv"):
        if shutil.which(program, path=PATH) is None:
            return f"{program} is not installed (scripts/install_slurm.sh, as root)"
    return None if os.getuid() == 0 else "slurmd runs jobs only as root"


def wait_for(
    what: str,
    true: Callable[[], bool],
    seconds: float = 420,
    closed: threading.Event | None = None,
) -> None:
    """Return once ``true()``; TimeoutError after ``seconds`` or once ``closed``."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline or (closed is not None and closed.is_set()):
            raise TimeoutError(f"waited {seconds:.0f} s for: {what}")
        time.sleep(0.2)


class Sweep:
    """A running ``./train.py --multirun hydra/launcher=slurm``."""

    def __init__(self, cluster: Cluster, name: str, overrides: tuple[str, ...]) -> None:
        self.cluster, self.name = cluster, name
        self.directory = cluster.folder / name
        self.log = cluster.folder / f"{name}.log"
        command = [
            sys.executable, "train.py", "--config-dir", str(HERE / "conf"), "--multirun",
            "hydra/launcher=slurm", f"hydra.launcher.name={name}",
            f"hydra.sweep.dir={self.directory}", f"paths.runs={cluster.folder}",
            *running.TINY, *overrides,
        ]  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=running.ROOT, env=cluster.environment, stdout=log, stderr=log
            )

    def jobs(self) -> list[Job]:
        """The sweep's jobs, by number."""
        rows = self.cluster.run(
            "squeue", "-h", "-a", "-t", "all", "-n", self.name,
            "-O", "JobArrayID,State,RestartCnt,NodeList",
        )  # fmt: skip
        split = [(*line.split(), "")[:4] for line in rows.splitlines()]
        return sorted(Job(number, state, int(count), on) for number, state, count, on in split)

    def runs(self) -> list[Path]:
        """Run directories that exist by now, in the order of the points."""
        return sorted(path.parent for path in self.directory.glob("*/config.yaml"))

    def reached(self, step: int, run: int = 0) -> None:
        """Wait until a run has logged ``step``."""

        def there() -> bool:
            found = self.runs()
            rows = len(found) > run and (found[run] / "metrics.jsonl").exists()
            return rows and max(running.metrics(found[run]), default=-1) >= step

        self._wait(f"step {step} of run {run}", there)

    def wait(self) -> int:
        """Wait until launcher and jobs have ended; the launcher's exit code."""
        self._wait("the end of the launcher", lambda: self.process.poll() is not None)
        self._wait("the end of the jobs", lambda: {job.state for job in self.jobs()} <= STOPPED)
        return self.process.wait()

    def said(self) -> str:
        """What the launcher printed."""
        return self.log.read_text()

    def _wait(self, what: str, true: Callable[[], bool]) -> None:
        try:
            wait_for(f"{what} of {self.name}", true, closed=self.cluster.closed)
        except TimeoutError as error:
            logs = [self.log, *self.directory.rglob("*.log"), *self.directory.rglob("*.out")]
            tails = "\n".join(f"--- {path}\n{path.read_text()[-2000:]}" for path in logs)
            raise TimeoutError(f"{error}\n{self.jobs()}\n{tails}") from None


class Cluster:
    """How to talk to the SLURM that ``cluster`` started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closed = threading.Event()  # whoever still waits for something gives up
        self.environment = {
            **running.environment(),
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{PATH}",
        }
        self.environment = {  # pytest itself may run inside a job of a real cluster
            k: v
            for k, v in self.environment.items()
            if k == "SLURM_CONF" or not k.startswith(("SLURM", "SBATCH", "SUBMITIT"))
        }

    def run(self, *command: str) -> str:
        """Output of a SLURM command, with what it complained about if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def sweep(self, name: str, *overrides: str) -> Sweep:
        """Start a sweep of small runs as jobs called ``name``."""
        return Sweep(self, name, overrides)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start controller and nodes; end them and everything they started, whatever happens."""
    _configure(folder)
    slurm = Cluster(folder)
    daemons = []
    try:
        for name, *command in (
            ["slurmctld", "slurmctld", "-D", "-i"],
            *([f"slurmd.{node}", "slurmd", "-D", "-N", node] for node in NODES),
        ):
            with (folder / f"{name}.log").open("w") as log:
                daemons.append(
                    subprocess.Popen(
                        ["setpriv", "--pdeathsig", "TERM", *command],
                        env=slurm.environment, stdout=log, stderr=log,
                    )
                )  # fmt: skip
        try:
            wait_for("idle nodes", lambda: _idle(slurm) == len(NODES), 30)
        except TimeoutError as error:
            logs = [log.read_text()[-500:] for log in folder.glob("slurm*.log")]
            raise TimeoutError("\n".join([str(error), *logs])) from None
        yield slurm
    finally:
        slurm.closed.set()
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
        for process in _descendants(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _configure(folder: Path) -> None:
    for name in ("state", "bin", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    controller, *ports = _free_ports(1 + len(NODES))
    template = (HERE / "slurm.conf").read_text()
    text = template.format(
        folder=folder,
        host=socket.gethostname().split(".")[0],
        controller=controller,
        ports=",".join(map(str, ports[:-1])),
        last=ports[-1],
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(GPUS)
    sacct = folder / "bin" / "sacct"
    sacct.write_text(SACCT)
    sacct.chmod(0o755)


def _idle(slurm: Cluster) -> int:
    done = subprocess.run(
        ["sinfo", "-h", "-N", "-t", "idle", "-o", "%N"],
        env=slurm.environment, capture_output=True, text=True,
    )  # fmt: skip
    return len(set(done.stdout.split()))


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return sorted(free.getsockname()[1] for free in sockets)


def _descendants(folder: Path) -> list[int]:
    """Processes started under this SLURM: steps outlive their slurmd on purpose."""
    mark = f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
