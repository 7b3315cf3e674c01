#!/usr/bin/env python
"""Send runs that were trained without internet to wandb, each as one online run.

    python scripts/sync_wandb.py runs/sweeps/seeds
    python scripts/sync_wandb.py runs/A runs/B --project ours
    python scripts/sync_wandb.py runs/A --offline out     # merged, for `wandb sync` elsewhere

RUN is a run directory or a folder with runs below. What is sent: metrics.jsonl (of a step that was
logged twice the later values), mask videos, pictures, summary.json and the score tables. A resumed
run has several offline folders of wandb, and `wandb sync` lets the last of them overwrite the
others: use this instead. Typing it again sends only what is new (wandb/synced.json says what was
sent); a run that was logged online while it trained is left alone, unless told --again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from slotreel.errors import DataError, UserError
from slotreel.files import held, write_json
from slotreel.loggers import stored_facts, tags
from slotreel.mask_clips import clips_drawn
from slotreel.protocols.score_table import ScoreTable
from slotreel.report import log_videos
from slotreel.runtime.rows import read_rows
from slotreel.runtime.wandb_sink import WandbSink, run_id
from slotreel.scores import Row

LONGEST_START_S = 60  # wait for a server that may not be there
Digests = dict[str, str]  # of what was or is to be sent, by name


class Content(NamedTuple):
    """What a run has to say."""

    rows: dict[int, dict[str, Any]]  # numbers by step
    media: list[tuple[int, str, Path]]  # step, name, file
    summary: dict[str, Any]
    tables: list[Row]

    @property
    def last_step(self) -> int:
        """Of anything."""
        return max([0, *self.rows])

    def digests(self) -> Digests:
        """Changes where the content does."""
        found = {f"row {step}": _digest(row) for step, row in self.rows.items()}
        found |= {
            f"media {step} {name}": _digest(path.stat().st_size) for step, name, path in self.media
        }
        found |= {"summary": _digest(self.summary)} if self.summary else {}
        return found | {_table_key(row): _digest(row.table.to_dict()) for row in self.tables}


def find_runs(places: list[Path]) -> list[Path]:
    """Run directories among and below the places, each once.

    Raises:
        DataError: there is none at or below a place.
    """
    found: dict[Path, None] = {}
    for place in places:
        configs = [place / "config.yaml", *sorted(place.rglob("config.yaml"))]
        runs = [p.parent.resolve() for p in configs if (p.parent / "metrics.jsonl").is_file()]
        runs = [run for run in runs if (run / "config.yaml").is_file()]
        if not runs:
            raise DataError(
                f"{place}: expected a run with config.yaml and metrics.jsonl, or a folder with "
                "runs below, and there is none"
            )
        found |= dict.fromkeys(runs)
    return list(found)


def read(run: Path) -> Content:
    """Everything that can be sent of a run directory."""
    rows, scores = read_rows(run / "metrics.jsonl").by_step, _json(run / "scores.json")
    media, last = clips_drawn(run), scores.get("step") or 0
    for picture in sorted((run / "media").glob("*_[0-9][0-9].png")):
        name, _, number = picture.stem.rpartition("_")
        media.append((last, f"{name}/picture_{number}", picture))
    tables = []
    for name, protocols in scores.get("sets", {}).items():
        for protocol, found in protocols.items():
            own = next(row for row in found["rows"] if row["kind"] == "last")
            parts = {"rows": own["videos"], "facts": own["facts"]}
            table = {"set": name, "protocol": protocol, "description": "", **parts}
            tables.append(Row("this run", "last", ScoreTable.from_dict(table), own["step"]))
    return Content(rows, media, _json(run / "summary.json"), tables)


def sync(run: Path, options: argparse.Namespace) -> str:
    """Send what is new of one run; returns what was done, in words.

    Raises:
        DataError: another process sends it, or the server did not take all of it.
    """
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    project = options.project or (config.get("logger") or {}).get("project") or "slotreel"
    state = run / "wandb" / "synced.json"
    state.parent.mkdir(exist_ok=True)
    with held(state.with_suffix(".lock")) as free:
        if not free:
            raise DataError(f"{run} is being sent by another process; wait for it")
        before = _json(state)
        everything = bool(options.again or options.offline)
        if not before and not everything and any(run.glob("wandb/run-*")):
            return "was logged online while it trained: left alone (--again sends all of it)"
        content = read(run)
        now, sent = content.digests(), {} if everything else before.get(project, {})
        due = {key for key in now if sent.get(key) != now[key]}
        if not due:
            return "nothing new"
        _send(run, config, project, content, due, options)
        if not options.offline:
            write_json(state, before | {project: now})
    again = sum(1 for key in due if key in sent and key.startswith("row"))
    changed = f" ({again} had changed: wandb keeps both)" if again else ""
    where = options.offline or f"{project}/{run_id(run)}"
    return f"{len(due)} of {len(now)} items to {where}{changed}"


def _send(
    run: Path,
    config: dict[str, Any],
    project: str,
    content: Content,
    due: set[str],
    options: argparse.Namespace,
) -> None:
    """Rows with their media in the order of steps, then tables and summary."""
    facts = stored_facts(run) or {}
    logger = config.get("logger") or {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(options.offline or temporary) / run.name
        (place / "wandb").mkdir(parents=True, exist_ok=True)
        (place / "wandb" / "run_id").write_text(run_id(run))
        sink = WandbSink(
            project=project,
            mode="offline" if options.offline else "online",
            group=facts.get("group"),
            tags=tags(list(logger.get("tags") or []), facts),
            init_timeout_s=min(options.timeout, LONGEST_START_S),
            finish_timeout_s=options.timeout,
            run_dir=place,
            config=config | facts,
            name=run.name,
        )
        if sink.delivered or options.offline:
            _replay(sink, content, due)
        sink.close()
    if not options.offline and not sink.delivered:
        raise DataError(f"{run}: the server did not take all of it; type the command again later")


def _replay(sink: WandbSink, content: Content, due: set[str]) -> None:
    steps = sorted({*content.rows, *(step for step, _, _ in content.media)})
    for step in steps:
        if f"row {step}" in due:
            sink.log(step, content.rows[step])
        for of, name, path in content.media:
            if of == step and f"media {step} {name}" in due:
                sink.media(step, name, path)
    for row in content.tables:
        if _table_key(row) in due:
            log_videos(sink, row, row.step or content.last_step)
    if "summary" in due:
        sink.summary(content.summary)


def _table_key(row: Row) -> str:
    return f"table {row.table.set} {row.table.protocol}"


def _digest(content: Any) -> str:
    return hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 1 if any run could not be sent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run, or folder of runs")
    parser.add_argument("--project", help="of wandb; default: the run's own, else slotreel")
    parser.add_argument("--offline", type=Path, metavar="OUT", help="write merged offline runs")
    parser.add_argument("--again", action="store_true", help="send what was sent before as well")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each wait")
    options = parser.parse_args(arguments)
    failed = 0
    try:
        runs = find_runs(options.runs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as staging:
        os.environ.setdefault("WANDB_DATA_DIR", staging)
        for run in runs:
            try:
                print(f"{run.name}: {sync(run, options)}")
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
