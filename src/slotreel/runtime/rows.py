"""metrics.jsonl: one row of numbers a line, appended; of a step that comes again the later wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class Rows(NamedTuple):
    """What was logged."""

    by_step: dict[int, dict[str, Any]]  # ascending
    damaged: list[int]  # numbers of lines that cannot be read, from 1


def read_rows(path: Path) -> Rows:
    """Values by step; lines that a killed process left unfinished are left out and counted."""
    rows: dict[int, dict[str, Any]] = {}
    damaged = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError):
            damaged.append(number)
            continue
        rows.setdefault(step, {}).update(row)
    return Rows(dict(sorted(rows.items())), damaged)


def end_last_line(path: Path) -> None:
    """A line that a killed process left unfinished ends here, so that it spoils no later one."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.write(b"\n")
