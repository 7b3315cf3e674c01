"""Rows without training in the run's logger, each as a run of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import make
from slotreel.files import write_text
from slotreel.fingerprint import digest
from slotreel.report import log_videos
from slotreel.runtime.provenance import describe_code
from slotreel.scores import Row, flat_scores
from slotreel.trivial_store import write


class Place(NamedTuple):
    """Where trivial rows are kept and how they are logged.

    A row is scored once for each set, protocol, K, seed, image size, kind of device and backbone
    with its weights: these name its folder. Changed code, libraries or files of data score it
    again.
    """

    directory: Path  # one folder per row
    logger: DictConfig | None = None  # as in conf/logger; None: metrics.jsonl only
    last_step: int = 0  # where their level lines end
    clips_per_step: int = 0


def _backbone_name(settings: Mapping[str, Any]) -> str:
    backbone = settings["backbone"] or {}
    return str(backbone.get("model") or backbone.get("_target_", "").rpartition(".")[2])


def variant(settings: Mapping[str, Any]) -> str:
    """The row's name, with its backbone where it has one: the key to average seeds by."""
    return "-".join(filter(None, [settings["row"], _backbone_name(settings)]))


def folder_name(settings: Mapping[str, Any]) -> str:
    """Readable, and different for whatever was asked for differently."""
    words = [
        settings["set"], settings["protocol"], f"K{settings['num_slots']}", variant(settings),
        digest(settings)[:10],
    ]  # fmt: skip
    return re.sub(r"[^\w.+-]+", "_", "-".join(words))


def log_row(folder: Path, content: dict[str, Any], row: Row, place: Place) -> None:
    """Log the row where it was not logged yet, or where its level line ends too early.

    Each time all of it is written anew, so that no reader needs what came before.
    """
    logged: dict[str, int] = content["logged"]
    targets: dict[str, DictConfig | None] = {"metrics.jsonl": None}
    if place.logger is not None:
        targets |= {_destination(place.logger): place.logger}
    due = {name: to for name, to in targets.items() if logged.get(name, -1) < place.last_step}
    values = flat_scores(row)
    for name, logger in due.items():
        if logger is None:
            _write_lines(folder / name, values, place)
        else:
            _log_run(folder / "logger" / name, logger, content["settings"], row, values, place)
        logged[name] = place.last_step
    if due:
        write(folder, content)


def _destination(logger: DictConfig) -> str:
    """A logger's kind, project and group: a sweep sees the rows in its own group."""
    words = [logger["_target_"].rpartition(".")[2], logger.get("project"), logger.get("group")]
    return re.sub(r"[^\w.+-]+", "_", "-".join(str(word) for word in words if word))


def _points(values: Mapping[str, float], place: Place) -> dict[int, dict[str, float]]:
    """The same values at the first and the last step: a level line."""
    steps = sorted({0, place.last_step})
    return {step: {**values, "clips_seen": step * place.clips_per_step} for step in steps}


def _write_lines(path: Path, values: Mapping[str, float], place: Place) -> None:
    lines = [json.dumps({"step": n, **point}) for n, point in _points(values, place).items()]
    write_text(path, "\n".join(lines) + "\n")


def _log_run(
    directory: Path,
    logger: DictConfig,
    settings: Mapping[str, Any],
    row: Row,
    values: Mapping[str, float],
    place: Place,
) -> None:
    """One run of ``job_type=trivial``."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    facts = {"choice/model": settings["row"], "variant": variant(settings), **describe_code()}
    if settings["backbone"]:
        facts["choice/backbone"] = _backbone_name(settings)
    if "tags" in logger:
        words = [*(logger.tags or []), settings["set"], _backbone_name(settings)]
        logger = OmegaConf.merge(logger, {"tags": [word for word in words if word]})  # type: ignore[assignment]
    name = directory.parents[1].name
    sink = make(logger)(
        run_dir=directory, config={**settings, **facts}, name=name, job_type="trivial"
    )
    for step, point in _points(values, place).items():
        sink.log(step, point)
    sink.summary({**values, **{f"last/{key}": value for key, value in values.items()}})
    log_videos(sink, row, place.last_step)
    sink.close()
