"""Weights from files: read without running code in them, find the network, load all of it."""

from __future__ import annotations

import argparse
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from slotreel.errors import CheckpointError, ConfigError

# Plain data that published checkpoints carry beside their tensors (DINO: args; Lightning: paths).
_HARMLESS: list[Any] = [argparse.Namespace, pathlib.PosixPath]
_SHOWN = 8


def is_random(weights: str | None, default: str, who: str) -> bool:
    """Whether ``weights`` asks for an untrained network.

    Args:
        weights: ``random``, the name of weights that are known, or a file.
        default: that name.
        who: the backbone, for the error.

    Raises:
        ConfigError: nothing is named.
    """
    if not weights:
        raise ConfigError(
            f"{who} expects backbone.weights, got {weights!r}; type backbone.weights={default}, "
            "backbone.weights=FILE or backbone.weights=random"
        )
    return weights == "random"


def read_tensors(path: str | pathlib.Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or torch file, nested dictionaries joined by dots.

    Raises:
        CheckpointError: no such file, or not one that can be read without running code in it.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"expected a weights file at {path}, found none; check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_HARMLESS):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(
            f"expected .safetensors or a torch file of tensors and plain data, could not read "
            f"{path}: {error}"
        ) from error
    tensors: dict[str, Tensor] = {}
    _flatten(tree, "", tensors)
    return tensors


def _flatten(tree: Any, prefix: str, into: dict[str, Tensor]) -> None:
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(value, Tensor):
            into[f"{prefix}{key}"] = value
        else:
            _flatten(value, f"{prefix}{key}.", into)


def find_network(tensors: Mapping[str, Tensor], landmark: str, where: str) -> dict[str, Tensor]:
    """The entries of one network, with the prefix cut off under which a file keeps it.

    Prefixes such as ``module.``, ``backbone.``, ``teacher.`` or any nesting of them are recognised
    by a parameter that the network must have. Of a student and a teacher the teacher is taken.

    Args:
        tensors: of the file.
        landmark: name of the parameter that tells where the network is.
        where: the file, for errors.

    Raises:
        CheckpointError: the parameter is missing, or two networks have it.
    """
    found = [k[: -len(landmark)] for k in tensors if k == landmark or k.endswith(f".{landmark}")]
    teachers = [prefix for prefix in found if "teacher" in prefix.split(".")]
    prefixes = teachers or found
    if not prefixes:
        raise CheckpointError(
            f"{where}: expected a parameter named {landmark} (or ending in .{landmark}), "
            f"found {_listed(sorted(tensors))}"
        )
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{where}: expected one network, found {len(prefixes)}, under {_listed(prefixes)}; "
            "save the one you want alone"
        )
    cut = len(prefixes[0])
    return {k[cut:]: v for k, v in tensors.items() if k.startswith(prefixes[0])}


def load_all(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, unused: tuple[str, ...] = ()
) -> None:
    """Copy ``tensors`` into ``module``: every parameter must be there, in its shape.

    Args:
        module: whose state dict is filled.
        tensors: by the module's names.
        where: the file, for errors.
        unused: beginnings of names that the file may have and the module has no use for.

    Raises:
        CheckpointError: lists missing and unexpected names and shapes that differ.
    """
    own = module.state_dict()
    extra = [k for k in tensors if k not in own and not k.startswith(unused)]
    missing = [k for k in own if k not in tensors]
    shapes = [
        f"{k} {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in tensors and tensors[k].shape != own[k].shape
    ]
    if extra or missing or shapes:
        raise CheckpointError(
            f"{where} does not fit {type(module).__name__}: missing {_listed(missing)}; "
            f"unexpected {_listed(extra)}; other shape {_listed(shapes)}; "
            "choose the model these weights were made for"
        )
    module.load_state_dict({k: tensors[k] for k in own})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more if names else "none"
