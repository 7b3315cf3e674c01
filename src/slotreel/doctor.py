"""What this machine has for slotreel, and how to get what is missing: one check per fact."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from slotreel.assemble import build_backbone, make
from slotreel.errors import UserError
from slotreel.runtime.wandb_sink import has_login

PACKAGES = (
    "torch", "torchvision", "timm", "einops", "hydra-core", "hydra-submitit-launcher", "submitit",
    "wandb", "av", "scikit-learn",
)  # fmt: skip
PYTHON = ((3, 10), (3, 13))  # oldest and newest that are meant to work
NEEDED_GB = 5  # of free disk: checkpoints, wandb's files


class Check(NamedTuple):
    """One line of the report."""

    name: str
    state: str  # ok | note (works without) | missing
    found: str
    fix: str = ""


def machine() -> Iterator[Check]:
    """Versions, devices, disk, codecs, login, cluster."""
    yield _python()
    yield from map(_package, PACKAGES)
    yield _torchvision()
    yield _devices()
    yield _video_codec()
    yield _wandb()
    yield _slurm()


def configuration(cfg: DictConfig) -> Iterator[Check]:
    """Run folder, data and weights that a composed configuration names."""
    yield _runs(Path(cfg.paths.runs))
    if (cfg.get("dataset") or {}).get("source"):
        yield _tried("training data", lambda: _videos(cfg.dataset.source))
    sets = cfg.get("validate") or (cfg.get("dataset") or {}).get("validation") or {}
    for name, spec in sets.items():
        if spec is not None:
            yield _tried(f"validation {name}", functools.partial(_videos, spec.data))
    if (cfg.get("backbone") or {}).get("_target_"):
        yield _tried("backbone", lambda: _backbone(cfg))


def _python() -> Check:
    version = sys.version_info[:2]
    oldest, newest = (".".join(map(str, v)) for v in PYTHON)
    fits = PYTHON[0] <= version <= PYTHON[1]
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok" if fits else "missing", found, f"use Python {oldest} to {newest}")


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", "not installed", "pip install -e '.[dev]'")


def _torchvision() -> Check:
    """A torchvision of another build of torch imports and then lacks its operators."""
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        fix = "reinstall both together: pip install --force-reinstall torch torchvision"
        return Check("torch with torchvision", "missing", str(error).splitlines()[0], fix)
    return Check("torch with torchvision", "ok", "operators answer")


def _devices() -> Check:
    import torch

    cores = f"{os.cpu_count()} CPU cores"
    if not torch.cuda.is_available():
        return Check("devices", "note", f"{cores}, no GPU", "trainer.device=cpu is used")
    cards = []
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: trainer.precision=tf32"
        cards.append(f"{card.name} {card.total_memory / 2**30:.0f} GiB ({bf16})")
    return Check("devices", "ok", f"{cores}; {', '.join(cards)}")


def _video_codec() -> Check:
    import av

    has = "libx264" in av.codecs_available
    found = "libx264" if has else "no libx264: videos are written with another codec"
    return Check("video writing", "ok" if has else "note", found, "pip install -U av")


def _wandb() -> Check:
    if has_login():
        return Check("wandb", "ok", "logged in")
    return Check("wandb", "note", "no login: runs are kept offline", "wandb login, or logger=none")


def _slurm() -> Check:
    if shutil.which("sbatch"):
        return Check("SLURM", "ok", "sbatch is here: --multirun hydra/launcher=slurm")
    return Check("SLURM", "note", "no sbatch", "hydra/launcher=local sweeps on this machine")


def _runs(folder: Path) -> Check:
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Check("paths.runs", "missing", f"{folder}: {error.strerror}", "paths.runs=FOLDER")
    free = shutil.disk_usage(place).free / 2**30
    state = "ok" if free > NEEDED_GB else "missing"
    return Check(
        "paths.runs", state, f"{folder.resolve()}, {free:.0f} GiB free", "make room, or paths.runs="
    )


def _tried(name: str, look: Callable[[], str]) -> Check:
    """What looking gives, or the message for the user of what went wrong."""
    try:
        return Check(name, "ok", look())
    except UserError as error:
        return Check(name, "missing", str(error))
    except Exception as error:  # Hydra wraps what a constructor raises
        cause = error.__cause__
        if isinstance(cause, UserError):
            return Check(name, "missing", str(cause))
        return Check(name, "missing", f"{type(error).__name__}: {error}")


def _videos(spec: DictConfig) -> str:
    source = make(spec)()
    clip = source.read(0, [0])
    truth = "masks" if clip.labels is not None else ", ".join(clip.hints) or "no masks"
    height, width = clip.video.shape[1:3]
    return f"{len(source)} videos, first {source.info(0).id} {width} x {height}, {truth}"


def _backbone(cfg: DictConfig) -> str:
    backbone = build_backbone(cfg)
    total = sum(parameter.numel() for parameter in backbone.parameters())
    return f"{type(backbone).__name__}, {total} parameters, {backbone.feature_width} wide"
