"""A checkpoint as a folder to give away: weights.safetensors, and config.yaml beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from slotreel.errors import CheckpointError
from slotreel.files import replacing, write_text

WEIGHTS, CONFIG = "weights.safetensors", "config.yaml"
_HEADER = "slotreel"  # key of the header that holds everything but tensors, as JSON
_KEYS = ("format", "version", "step", "frozen")


def write_exported(folder: Path, content: dict[str, Any]) -> None:
    """Write weights and configuration of a checkpoint; optimizer and scores are left behind.

    Args:
        folder: made if it is missing.
        content: of the checkpoint.
    """
    tensors = {
        name: value.detach().cpu().clone().contiguous()  # no two may share memory
        for name, value in content["objective"].items()
    }
    header = {key: content.get(key) for key in _KEYS}
    with replacing(folder / WEIGHTS) as temporary:
        metadata = {"format": "pt", _HEADER: json.dumps(header)}
        temporary.write_bytes(save(tensors, metadata))  # save_file lets nobody else read it
    write_text(folder / CONFIG, content["config"])


def read_exported(path: Path) -> dict[str, Any]:
    """Content of such a folder, as of a checkpoint file, without an optimizer.

    Args:
        path: the weights.

    Raises:
        CheckpointError: damaged, not written by slotreel, or without its configuration.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again") from error
    if header is None:
        raise CheckpointError(
            f"{path} holds weights, but was not made by scripts/export.py; backbone.weights=FILE "
            "reads weights of a backbone alone"
        )
    config = path.with_name(CONFIG)
    if not config.is_file():
        raise CheckpointError(f"expected {config} beside {path.name}, found none; copy it as well")
    text = config.read_text(encoding="utf-8")
    return {**json.loads(header), "objective": tensors, "config": text}
