"""metrics.jsonl: one row of numbers a line, appended; of a step that comes again the later wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def merged_rows(path: Path) -> dict[int, dict[str, Any]]:
    """Values by step, ascending; lines that a killed process left unfinished are left out."""
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        rows.setdefault(step, {}).update(row)
    return dict(sorted(rows.items()))


def end_last_line(path: Path) -> None:
    """A line that a killed process left unfinished ends here, so that it spoils no later one."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.write(b"\n")
