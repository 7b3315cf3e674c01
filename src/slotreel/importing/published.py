"""Reading published checkpoints without running code that is in them."""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slotreel.errors import CheckpointError
from slotreel.importing.names import plain

# Keys of the weights and of the step: PyTorch Lightning's, and those of SMTC's program.
_LAYOUTS = {"state_dict": "global_step", "model_state_dict": "iteration"}
# Where Lightning wrote its checkpoints, in the state of a callback. The class moved in Python 3.13,
# and a file carries the name it had where it was written.
_NEEDED = [(pathlib.PosixPath, f"{where}.PosixPath") for where in ("pathlib", "pathlib._local")]


class Published(NamedTuple):
    """What is used of a published checkpoint."""

    tensors: dict[str, Tensor]  # by published name without the wrappers of video models
    step: int
    sha256: str  # of the file


def read_published(path: pathlib.Path) -> Published:
    """The weights of a published checkpoint.

    Args:
        path: a file with ``state_dict`` (PyTorch Lightning) or ``model_state_dict`` (SMTC), and of
            a whole checkpoint the step and more.

    Raises:
        CheckpointError: no such file, damaged, no such layout, or it needs more than tensors, plain
            values and paths.
    """
    path = path.expanduser()
    if not path.is_file():
        raise CheckpointError(f"expected a published checkpoint at {path}, found none")
    try:
        with torch.serialization.safe_globals(_NEEDED):  # type: ignore[arg-type]
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a torn or a foreign file
        raise CheckpointError(_refusal(path, error)) from error
    content = content if isinstance(content, dict) else {"": content}
    key = next((key for key in _LAYOUTS if key in content), "")
    state = content.get(key)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: {_layout(content)}")
    return Published(
        {plain(str(name)): value for name, value in state.items()},
        int(content.get(_LAYOUTS[key]) or 0),
        file_sha256(path),
    )


def file_sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file of any size."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _refusal(path: pathlib.Path, error: Exception) -> str:
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"{path} needs {foreign[1]}, which reading could run code with: a published checkpoint "
            "has tensors, plain values and paths only, so this is another file. Fetch it again, or "
            "save its state_dict alone: torch.save({'state_dict': ...}, FILE)"
        )
    first = str(error).splitlines()[0] if str(error) else ""
    return (
        f"{path} cannot be read ({type(error).__name__}: {first}); expected a whole torch file, so "
        "it may be cut short: fetch it again"
    )


def _layout(content: dict[str, Any]) -> str:
    """What a torch file is instead of a published checkpoint."""
    keys = ", ".join(key or type(value).__name__ for key, value in content.items())
    if {"format", "objective"} <= content.keys():
        return "is a slotreel checkpoint already; give it to checkpoint= or init_from="
    return f"expected a dictionary with {' or '.join(_LAYOUTS)}, found {keys[:200]}"
