"""A published checkpoint becomes a slotreel run: weights by our names, the experiment's config."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from slotreel import frozen
from slotreel.assemble import build_objective
from slotreel.composing import compose_config
from slotreel.errors import CheckpointError, ConfigError, nearest
from slotreel.importing.programs import PROGRAMS
from slotreel.importing.published import read_published
from slotreel.training.checkpoint import checkpoint_path, save_atomic

# Configurations of each published program; each is the experiment SOURCE_PRESET.
PRESETS = {source: program.presets for source, program in PROGRAMS.items()}
_EMA, _MODEL = "ema.", "model."
_BACKBONE = "model.backbone"
_SHOWN = 8


class Imported(NamedTuple):
    """What came of an import."""

    directory: Path
    step: int
    num_tensors: int
    sha256: str  # of the published file
    backbone: str  # how it is stored
    unused: tuple[str, ...]  # published names that nothing here depends on


class Slot(NamedTuple):
    """A parameter of ours and what the published file calls it."""

    ours: str
    shape: tuple[int, ...]
    published: tuple[int, ...]  # shape in the file


def import_checkpoint(
    path: Path,
    source: str,
    preset: str,
    out: Path,
    *,
    full: bool = False,
    overrides: Sequence[str] = (),
) -> Imported:
    """Write a run directory with the weights of a published checkpoint.

    Args:
        path: the published file.
        source: program that wrote it, see ``PRESETS``.
        preset: its configuration.
        out: run directory to make; it appears once it is complete.
        full: store the frozen backbone too; else where it comes from and its hash.
        overrides: where the file's model is not the preset's, as typed for ``./train.py``.

    Raises:
        ConfigError: an unknown source, preset or option; ``out`` is there.
        CheckpointError: the file cannot be read, or its parameters are not the preset's.
    """
    experiment_of(source, preset)
    if out.exists():
        raise ConfigError(f"{out} is there already; give another directory, or remove it")
    published = read_published(path)
    cfg, slots = _model(source, preset, tuple(overrides))
    needed, unused = without_unused(published.tensors, source)
    problems = differences(needed, slots)
    if problems:
        fits = [f"--source {s} --preset {p}" for s, p in _fitting(published.tensors)]
        hint = f"; it fits {' or '.join(fits)}" if fits else ""
        raise CheckpointError(f"{path} is not {source} {preset}: {'; '.join(problems)}{hint}")
    objective = {slot.ours: needed[name].reshape(slot.shape) for name, slot in slots.items()}
    count = len(objective)
    if cfg.model.get("ema") is not None:  # an averaged copy starts as the model is
        objective |= {f"{_EMA}{k.removeprefix(_MODEL)}": v for k, v in objective.items()}
    stored, references = (objective, {}) if full else _by_reference(objective, cfg)
    config = OmegaConf.to_yaml(cfg)
    content = {
        "step": published.step,
        "evaluated_step": None,
        "best": None,
        "objective": stored,
        "frozen": references,
        "optimizer": None,
        "config": config,
        "imported": {"source": source, "preset": preset, "sha256": published.sha256},
    }
    with _new_directory(out) as temporary:
        save_atomic(checkpoint_path(temporary, published.step), content)
        (temporary / "config.yaml").write_text(config, encoding="utf-8")
    origins = ", ".join(reference["origin"] for reference in references.values())
    backbone = f"by reference to {origins}" if references else "stored in full"
    return Imported(out, published.step, count, published.sha256, backbone, tuple(unused))


def experiment_of(source: str, preset: str) -> str:
    """The experiment that is a published configuration.

    Raises:
        ConfigError: there is no such source or preset.
    """
    if source not in PRESETS:
        raise ConfigError(f"--source has no option {source}; {nearest(source, PRESETS)}")
    if preset not in PRESETS[source]:
        known = nearest(preset, PRESETS[source])
        raise ConfigError(f"--preset of {source} has no option {preset}; {known}")
    return f"{source}_{preset}"


@functools.cache
def _model(
    source: str, preset: str, overrides: tuple[str, ...] = ()
) -> tuple[DictConfig, dict[str, Slot]]:
    experiment = experiment_of(source, preset)
    cfg = compose_config("train", [f"experiment={experiment}", "logger=none", *overrides])
    return cfg, slots_of(cfg, source)


def slots_of(cfg: DictConfig, source: str) -> dict[str, Slot]:
    """The parameters of a configured model by their names in the files of a program.

    Raises:
        ConfigError: the model has a parameter that the published program has not.
    """
    with torch.device("meta"):  # names and shapes are all that is wanted
        state = build_objective(cfg, weights=False).state_dict()
    slots = {}
    for ours, value in state.items():
        if ours.startswith(_EMA):
            continue
        shape = tuple(value.shape)
        try:
            name, theirs = PROGRAMS[source].place(ours.removeprefix(_MODEL), shape, cfg)
        except KeyError as error:
            raise ConfigError(
                f"{ours} has no counterpart in the published program; drop the option that made it"
            ) from error
        slots[name] = Slot(ours, shape, theirs)
    return slots


def without_unused(
    tensors: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that count, and the names of those that nothing depends on."""
    unused = [name for name in tensors if re.fullmatch(PROGRAMS[source].unused, name)]
    return {name: value for name, value in tensors.items() if name not in unused}, unused


def differences(tensors: Mapping[str, Tensor], slots: Mapping[str, Slot]) -> list[str]:
    """What keeps tensors from filling the parameters, one phrase a kind; [] if they fit."""
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {slot.published}"
        for name, slot in slots.items()
        if name in tensors and tuple(tensors[name].shape) != slot.published
    ]
    missing = [name for name in slots if name not in tensors]
    extra = [name for name in tensors if name not in slots]
    kinds = {"other shape": shapes, "missing": missing, "left over": extra}
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _by_reference(
    objective: dict[str, Tensor], cfg: DictConfig
) -> tuple[dict[str, Tensor], frozen.References]:
    """What is left of an objective once its frozen backbone is named instead of stored.

    The hash is that of the published file's tensors: if timm's differ, loading says so.
    """
    if not cfg.backbone.frozen or cfg.backbone.weights != "hub":
        return objective, {}
    own = frozen.under(objective, _BACKBONE)
    rest = {k: v for k, v in objective.items() if not k.startswith(f"{_BACKBONE}.")}
    reference = {"origin": f"timm:{cfg.backbone.model}", "sha256": frozen.digest(own)}
    return rest, {_BACKBONE: reference}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _fitting(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Every preset whose parameters the tensors are."""
    for source, presets in PRESETS.items():
        for preset in presets:
            needed, _ = without_unused(tensors, source)
            if not differences(needed, _model(source, preset)[1]):
                yield source, preset


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name if the block succeeds, and goes if it fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
