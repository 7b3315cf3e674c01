"""Frozen weights by reference: a checkpoint names where they come from instead of holding them.

A backbone that never changes and whose weights can be had again (``Backbone.origin``) is left out
of a checkpoint; its entry ``frozen: {prefix: {origin, sha256}}`` says what belongs there. Random
weights and those read from a file have no origin and are always stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from slotreel.errors import CheckpointError
from slotreel.interfaces import Backbone

References = dict[str, dict[str, str]]  # prefix of names -> origin, sha256


def split(objective: nn.Module, full: bool = False) -> tuple[dict[str, Tensor], References]:
    """What a checkpoint stores of an objective.

    Args:
        objective: the model, with an averaged copy if it keeps one.
        full: store everything.

    Returns:
        The state dict without frozen backbones of known origin, and the reference of each of them.
    """
    state = dict(objective.state_dict())
    references: References = {}
    for prefix, backbone in [] if full else _with_origin(objective):
        own = under(state, prefix)
        references[prefix] = {"origin": str(backbone.origin), "sha256": digest(own)}
        for name in own:
            del state[f"{prefix}.{name}"]
    return state, references


def complete(
    objective: nn.Module,
    state: Mapping[str, Tensor],
    references: Mapping[str, Mapping[str, str]],
    where: str,
) -> dict[str, Tensor]:
    """The state a checkpoint stands for: what it holds, and what it refers to.

    What it refers to is taken from ``objective``, which was built with weights of that origin. A
    backbone of ``objective`` that the state would change loses its origin, so that the next
    checkpoint stores it.

    Args:
        objective: built from the checkpoint's configuration.
        state: tensors of the checkpoint.
        references: its entry ``frozen``.
        where: the checkpoint, for errors.

    Raises:
        CheckpointError: the weights of an origin are not those the checkpoint was trained with.
    """
    have, whole = objective.state_dict(), dict(state)
    for prefix, reference in references.items():
        own = under(have, prefix)
        if digest(own) != reference["sha256"]:
            raise CheckpointError(_differs(objective, prefix, reference, digest(own), where))
        whole |= {f"{prefix}.{name}": value for name, value in own.items()}
    for prefix, backbone in _with_origin(objective):
        if prefix not in references and _changes(under(have, prefix), under(whole, prefix)):
            backbone.origin = None
    return whole


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a network's tensors, by its own names."""
    total = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below ``prefix``, by their names there."""
    start = f"{prefix}."
    return {k[len(start) :]: value for k, value in state.items() if k.startswith(start)}


def _with_origin(objective: nn.Module) -> list[tuple[str, Backbone]]:
    """Frozen backbones whose weights can be had again, by the prefix of their names."""
    return [
        (prefix, part)
        for prefix, part in objective.named_modules(remove_duplicate=False)
        if isinstance(part, Backbone) and part.frozen and part.origin and prefix
    ]


def _changes(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> bool:
    return old.keys() != new.keys() or any(
        not torch.equal(value, new[name].to(value.device)) for name, value in old.items()
    )


def _differs(
    objective: nn.Module, prefix: str, reference: Mapping[str, str], found: str, where: str
) -> str:
    part = dict(objective.named_modules(remove_duplicate=False)).get(prefix)
    here = getattr(part, "origin", None) or "weights without an origin"
    return (
        f"{where} does not hold the frozen weights of {prefix}: it was trained with "
        f"{reference['origin']}, sha256 {reference['sha256'][:12]}..., and this model has {here}, "
        f"sha256 {found[:12]}... there. Use the backbone it was trained with (its config.yaml) and "
        "the versions of timm and slotreel of that time; there, python scripts/export.py RUN OUT "
        "--full writes a copy that holds everything"
    )
