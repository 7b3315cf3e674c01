"""The stored scores of a row without training: one folder, whole or not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from slotreel.files import held, write_json
from slotreel.fingerprint import digest
from slotreel.protocols.score_table import ScoreTable
from slotreel.scores import Row

log = logging.getLogger(__name__)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process may write to the folder; another may be at it, or it is read-only."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mine = stack.enter_context(held(folder / ".lock"))
        except OSError as error:
            log.warning("trivial rows are not kept: cannot write to %s (%s)", folder, error)
            mine = False
        yield mine


def read(folder: Path, settings: dict[str, Any], made_by: dict[str, Any]) -> dict[str, Any] | None:
    """What is stored, if it is whole and made the way it would be made now."""
    path = folder / "scores.json"
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = content.pop("checksum") == digest(content)
        row_of(content)
        whole &= all(isinstance(step, int) for step in content["logged"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        whole = False
    if not whole:
        log.warning("%s is damaged; the row is scored again", path)
        return None
    if content["settings"] != settings:
        log.warning("%s belongs to other settings; the row is scored again", path)
        return None
    changed = [what for what, value in made_by.items() if content["made_by"].get(what) != value]
    if changed:
        log.info("%s is scored again: %s changed since", folder.name, ", ".join(changed))
        return None
    return content


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Store it, old or new whatever happens; ``read`` gives it back."""
    write_json(folder / "scores.json", {**content, "checksum": digest(content)})


def row_of(content: Mapping[str, Any]) -> Row:
    """The row of a stored file."""
    settings = content["settings"]
    name, protocol = settings["set"], settings["protocol"]
    stored = content["sets"][name][protocol]
    (row,) = stored["rows"]
    table = ScoreTable.from_dict(
        {
            "set": name, "protocol": protocol, "description": stored["description"],
            "rows": row["videos"], "facts": row["facts"],
        }
    )  # fmt: skip
    return Row(row["label"], row["kind"], table)
