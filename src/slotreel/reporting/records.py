"""What a run directory holds, read with patience: what is damaged or missing is said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from slotreel.fingerprint import digest
from slotreel.protocols.score_table import ScoreTable
from slotreel.runtime.rows import read_rows
from slotreel.scores import RUNS, Row, check_same

_ERROR = re.compile(r"\S+ \S+ (ERROR|CRITICAL) \S+: ")  # a line of train.log


class Column(NamedTuple):
    """What may share a column: the same videos, scored the same way."""

    set: str
    protocol: str
    description: str
    identity: str  # of protocol, data and video ids

    def title(self) -> str:
        """Set and protocol."""
        return f"{self.set} / {self.protocol}"


class Result(NamedTuple):
    """Rows of one run in one column, and the health of its slots."""

    rows: list[Row]
    num_slots: int | None
    masks: str
    health: dict[str, float]  # of the masks that were scored

    def own(self) -> Row:
        """The run's last state, or what ``eval`` scored."""
        return next(row for row in self.rows if row.kind in RUNS and row.kind != "best")


@dataclass
class Record:
    """One run directory.

    Attributes:
        directory: of the run.
        config: resolved configuration; empty if it cannot be read.
        facts: top of scores.json: step, minutes, memory; empty for a run that did not finish.
        results: by column.
        history: logged numbers by step, ascending.
        pictures: of its masks.
        problems: what is missing or damaged, in words.
    """

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    results: dict[Column, Result] = field(default_factory=dict)
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.directory.resolve().name

    @property
    def finished(self) -> bool:
        """Whether its scores are those of the end of training."""
        return bool(self.facts)

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return max([self.facts.get("step") or 0, *self.history])

    @property
    def num_steps(self) -> int | None:
        """How long it was to train."""
        return (self.config.get("trainer") or {}).get("num_steps")


def read_record(directory: Path) -> Record:
    """Everything in a run directory that can be read."""
    record = Record(directory)
    _read_config(record)
    _read_history(record)
    _read_scores(record)
    _read_evaluations(record)
    record.pictures = sorted((directory / "media").glob("*.png"))
    return record


def _read_config(record: Record) -> None:
    path = record.directory / "config.yaml"
    if not path.is_file():
        record.problems.append("no config.yaml: it ended before it was set up, or never began")
        return
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "seed" not in config:
            raise ValueError("it holds no configuration with a seed")
        record.config = config
    except (OSError, ValueError, yaml.YAMLError) as error:
        record.problems.append(f"config.yaml cannot be read: {_first_line(error)}")


def _read_history(record: Record) -> None:
    """Logged numbers; of a step that was logged twice the later values win."""
    path = record.directory / "metrics.jsonl"
    if not path.is_file():
        record.problems.append("no metrics.jsonl: nothing was logged")
        return
    rows, damaged = read_rows(path)
    if damaged:
        record.problems.append(
            f"metrics.jsonl: {len(damaged)} of its lines cannot be read, the first is line "
            f"{damaged[0]}"
        )
    record.history = {
        step: {key: float(value) for key, value in row.items() if value is not None}
        for step, row in rows.items()
    }


def _read_scores(record: Record) -> None:
    path = record.directory / "scores.json"
    if not path.is_file():
        of = "" if record.num_steps is None else f" of {record.num_steps}"
        record.problems.append(
            f"not finished: stands at step {record.step}{of}, no scores.json{_last_error(record)}"
        )
        return
    try:
        facts, results = _parse(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        record.problems.append(f"scores.json cannot be read: {_said(error)}")
        return
    newest = max(record.history, default=0)
    if newest > facts["step"]:
        record.problems.append(
            f"not finished: scores.json is of step {facts['step']}, training went on to {newest}"
        )
        return
    record.facts, record.results = facts, results
    if not results:
        record.problems.append("no scores: its videos have no masks, or validate=none")


def _last_error(record: Record) -> str:
    """What its log said last, if that was an error."""
    try:
        lines = (record.directory / "train.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    said = [line for line in lines.splitlines() if _ERROR.match(line)]
    return f"; its log says: {_ERROR.sub('', said[-1])[:200]}" if said else ""


def _read_evaluations(record: Record) -> None:
    """What ``eval`` scored of this run since, if it was the run's last state."""
    for path in sorted((record.directory / "eval").glob("*/scores.json")):
        where = path.relative_to(record.directory)
        try:
            facts, results = _parse(path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
            record.problems.append(f"{where} cannot be read: {_said(error)}")
            continue
        if facts["step"] != record.facts.get("step"):
            record.problems.append(
                f"{where} is of step {facts['step']}, not of the end of this run: left out"
            )
            continue
        for column, result in results.items():
            record.results.setdefault(column, result)


def _parse(path: Path) -> tuple[dict[str, Any], dict[Column, Result]]:
    """Facts and results of a scores.json."""
    content = json.loads(path.read_text(encoding="utf-8"))
    results = {}
    for name, protocols in content.pop("sets").items():
        for protocol, stored in protocols.items():
            head = {"set": name, "protocol": protocol, "description": stored["description"]}
            rows = [
                Row(
                    row["label"],
                    row["kind"],
                    ScoreTable.from_dict({**head, "rows": row["videos"], "facts": row["facts"]}),
                    row["step"],
                )
                for row in stored["rows"]
            ]
            identity = digest([head, _anywhere(stored["data"]), sorted(check_same(rows).rows)])
            masks, health = stored["masks"], stored["health"]
            result = Result(rows, stored["num_slots"], masks, health.get(masks, {}))
            result.own()  # a file without a row of the run is damaged
            results[Column(**head, identity=identity)] = result
    content["step"] = content["step"] or 0
    return content, results


def _anywhere(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of videos without the folder they lie in."""
    return {key: value for key, value in (data or {}).items() if key != "root"}


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return "no row of the run" if isinstance(error, StopIteration) else _first_line(error)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
