"""How far each point of a sweep is, read from its folder and, under SLURM, from the queue.

SWEEP/sweep.json        points ever asked for: {"points": {name: {"overrides", "job"}}}
SWEEP/<point>/          run directories
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from slotreel.errors import DataError
from slotreel.files import is_held, write_json
from slotreel.training.recent import AUTO_MONITOR

MANIFEST = "sweep.json"
CONSOLE = "console.log"  # all that the process of a point printed
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} (\w+) \S+: (.*)")
_STARTS = "run directory "  # what a process logs before it trains


class State(NamedTuple):
    """Of one point."""

    name: str
    state: str  # finished | running | queued | failed | missing
    step: int | None = None
    score: str = ""  # e.g. "fg_ari_video 61.2"
    hours: float | None = None  # of all its processes
    error: str = ""  # the last one logged, of a failed point


def read_points(sweep: Path) -> dict[str, dict[str, Any]]:
    """Every point that was asked for, in the order of asking; none if there is no such sweep.

    Raises:
        DataError: the file is damaged.
    """
    path = sweep / MANIFEST
    if not path.is_file():
        return {}
    try:
        points: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["points"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"expected the points of a sweep in {path}, could not read it ({error}); remove it and "
            "type the sweep again: finished runs are found by their folders"
        ) from error
    return points


def add_points(sweep: Path, points: Mapping[str, Sequence[str]]) -> None:
    """Remember points with their overrides beside those of earlier calls."""
    known = read_points(sweep)
    for name, overrides in points.items():
        known[name] = {"job": None, **known.get(name, {}), "overrides": list(overrides)}
    write_json(sweep / MANIFEST, {"points": known})


def add_jobs(sweep: Path, jobs: Mapping[str, str]) -> None:
    """Remember which job of the queue runs a point."""
    known = read_points(sweep)
    for name, job in jobs.items():
        known[name]["job"] = job
    write_json(sweep / MANIFEST, {"points": known})


def queue() -> dict[str, str]:
    """State of this user's jobs by id, e.g. ``{"12_3": "PENDING"}``; empty without SLURM."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: words[1] for words in lines if len(words) == 2}


def states(sweep: Path) -> list[State]:
    """Of every point, in the order of asking."""
    jobs, points = None, read_points(sweep)
    if any(point["job"] for point in points.values()):
        jobs = queue()
    return [state(sweep / name, point["job"], jobs or {}) for name, point in points.items()]


def state(run: Path, job: str | None = None, jobs: Mapping[str, str] | None = None) -> State:
    """Of one run directory, which need not be there; ``job`` is its own in ``jobs``, if any."""
    step, hours, error = _step(run), _hours(run), ""
    scores = _finished(run)
    waiting = (jobs or {}).get(job or "")
    if scores is not None:
        return State(run.name, "finished", scores["step"], _headline(scores), hours)
    if waiting is not None:
        word = "queued" if waiting in ("PENDING", "REQUEUED") else "running"
    elif is_held(run / ".lock") or is_held(run / CONSOLE):  # trains, or is about to
        word = "running"
    elif (run / "train.log").exists() or (run / CONSOLE).exists():
        word, error = "failed", _last_error(run)
    else:
        word = "missing"
    return State(run.name, word, step, "", hours, error)


def table(rows: Iterable[State]) -> str:
    """The states as lines of text, and below what went wrong where."""
    rows = list(rows)
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'run':{width}}  {'state':9} {'step':>8} {'hours':>7}  score"]
    for name, word, step, score, hours, _ in rows:
        cells = ("" if step is None else str(step), "" if hours is None else f"{hours:.2f}")
        lines.append(f"{name:{width}}  {word:9} {cells[0]:>8} {cells[1]:>7}  {score}".rstrip())
    counts = [(word, sum(row.state == word for row in rows)) for word in _WORDS]
    lines.append(", ".join(f"{number} {word}" for word, number in counts if number) or "no runs")
    lines += [f"{row.name}: {row.error}" for row in rows if row.error]
    return "\n".join(lines)


_WORDS = ("finished", "running", "queued", "failed", "missing")


def _finished(run: Path) -> dict[str, Any] | None:
    """The final scores, if training reached its last step."""
    try:
        scores: dict[str, Any] = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        wanted = OmegaConf.load(run / "config.yaml").trainer.num_steps
    except (OSError, ValueError):
        return None
    return scores if scores.get("step", -1) >= wanted else None


def _headline(scores: Mapping[str, Any]) -> str:
    for protocols in scores["sets"].values():
        for protocol in protocols.values():
            means = [row["means"] for row in protocol["rows"] if row["kind"] == "last"]
            for metric in AUTO_MONITOR:
                if means and metric in means[0]:
                    return f"{metric} {100 * means[0][metric]:.1f}"
    return ""


def _step(run: Path) -> int | None:
    """The last step of metrics.jsonl."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else None
    except (OSError, ValueError):
        return None


def _logged(run: Path) -> list[tuple[str, str, str]]:
    """(time, level, message) of every line of train.log."""
    try:
        text = (run / "train.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [(m[1], m[2], m[3]) for line in text.splitlines() if (m := _TIME.match(line))]


def _hours(run: Path) -> float | None:
    """Of all processes that worked on it, each from its first line after start to its last."""
    total, start, last = 0.0, None, None
    for time, _, message in _logged(run):
        now = datetime.fromisoformat(time)
        if message.startswith(_STARTS):
            total += (last - start).total_seconds() if start and last else 0.0
            start = now
        last = now
    if start is None or last is None:
        return None
    return (total + (last - start).total_seconds()) / 3600


def _last_error(run: Path) -> str:
    nothing = said = "stopped without an error of its own"
    for _, level, message in _logged(run):
        if message.startswith(_STARTS):  # what an earlier process said is past
            said = nothing
        elif level == "ERROR":
            said = message
    log = run / "train.log"
    return f"{said[:200]} ({log if log.exists() else run / CONSOLE})"
