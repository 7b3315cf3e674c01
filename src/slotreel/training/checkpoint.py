"""Checkpoints: atomic, tensors and plain values only, newest damaged one falls back.

RUN/checkpoints/step_000001000.pt   {format, version, step, evaluated_step, best, objective, frozen,
RUN/checkpoints/best.pt              optimizer, config}
OUT/weights.safetensors              objective; the rest in its header, config in config.yaml beside

``frozen`` names weights that are left out of ``objective``, see ``slotreel.frozen``.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import torch

from slotreel import __version__, frozen
from slotreel.errors import CheckpointError, nearest
from slotreel.files import replacing
from slotreel.interfaces import Objective
from slotreel.training.exported import WEIGHTS, read_exported

log = logging.getLogger(__name__)
FORMAT = 1
_STEP = re.compile(r"step_(\d{9})\.pt$")


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` lives."""
    return run_dir / "checkpoints" / f"step_{step:09d}.pt"


def save_atomic(path: Path, content: dict[str, Any]) -> None:
    """Write a temporary file, fsync, rename: readers see the old file or the new, never half."""
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, "version": __version__, **content}, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(
            f"could not write {path}: {error.strerror or error}; free some space, then resume with "
            f"./train.py resume={path.parent.parent}"
        ) from error


def steps_saved(run_dir: Path) -> list[Path]:
    """Numbered checkpoints of a run, oldest first."""
    return sorted(p for p in (run_dir / "checkpoints").glob("step_*.pt") if _STEP.search(p.name))


def keep_last(run_dir: Path, k: int) -> None:
    """Delete all but the ``k`` newest numbered checkpoints, and what killed saves left.

    Only the process that saves into the run may call it.
    """
    for path in [*steps_saved(run_dir)[:-k], *(run_dir / "checkpoints").glob(".*.pt")]:
        path.unlink()


def read(path: Path) -> dict[str, Any]:
    """Read one checkpoint file.

    Raises:
        CheckpointError: missing, damaged, or not written by slotreel.
    """
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; pass a run directory, a .pt file or an exported folder"
        )
    if path.suffix == ".safetensors":
        content: Any = read_exported(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a torn file
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}: {error})"
            ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a slotreel checkpoint of format {FORMAT} (a published checkpoint must "
            "be imported first)"
        )
    return content


def newest(run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest readable checkpoint of a run; damaged ones are skipped with a warning."""
    for path in reversed(steps_saved(run_dir)):
        try:
            return path, read(path)
        except CheckpointError as error:
            log.warning("%s; falling back to the one before", error)
    return None


def find(spec: str | Path) -> tuple[Path, dict[str, Any]]:
    """What a user names -> the checkpoint file and its content.

    A run directory (its newest readable checkpoint), a file, or a folder made by scripts/export.py.
    Whatever takes a checkpoint from the user asks here.

    Raises:
        CheckpointError: nothing there, with what was found beside it, or nothing readable.
    """
    path = Path(spec)
    if path.is_file():
        return path, read(path)
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS, read(path / WEIGHTS)
    if path.is_dir():
        found = newest(path)
        if found is None:
            raise CheckpointError(f"{path} holds no readable checkpoint under checkpoints/")
        return found
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise CheckpointError(
        f"no run or checkpoint at {path}" + (f"; {nearest(path.name, beside)}" if beside else "")
    )


def holds_everything(content: dict[str, Any]) -> bool:
    """Whether a model built with random weights is complete once they are loaded."""
    return not content.get("frozen")


def load_objective(objective: Objective, content: dict[str, Any], where: str) -> None:
    """Load the weights a checkpoint holds; those it refers to must be in ``objective`` already.

    Raises:
        CheckpointError: they do not fit, or weights it refers to are not those it was trained with.
    """
    references = content.get("frozen") or {}
    load_weights(
        objective, frozen.complete(objective, content["objective"], references, where), where
    )


def load_weights(module: torch.nn.Module, state: dict[str, Any], where: str) -> None:
    """Load weights; every key must fit.

    Raises:
        CheckpointError: keys that are missing, left over or of another shape, by name.
    """
    have = module.state_dict()
    problems = {
        "missing": sorted(have.keys() - state.keys()),
        "left over": sorted(state.keys() - have.keys()),
        "other shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(have[key].shape)}"
            for key in sorted(have.keys() & state.keys())
            if state[key].shape != have[key].shape
        ],
    }
    wrong = [
        f"{kind}: {', '.join(keys[:8])}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        for kind, keys in problems.items()
        if keys
    ]
    if wrong:
        raise CheckpointError(
            f"{where} does not fit this model. " + "; ".join(wrong) + ". Use the options the "
            "checkpoint was trained with (its config.yaml), or leave them out."
        )
    module.load_state_dict(state)
