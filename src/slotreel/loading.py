"""The model a command names: a checkpoint, a model without training, or maps on disk."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective
from slotreel.baselines.trivial import TRIVIAL_ROWS, Trivial
from slotreel.errors import ConfigError
from slotreel.features_only import FeaturesOnly
from slotreel.interfaces import Objective
from slotreel.results.stored import StoredMasks
from slotreel.training import checkpoint

UNTRAINED_IMAGE_SIZE = 224  # what a model without training sees of real video, pixels


class Subject(NamedTuple):
    """What is scored or run."""

    objective: Objective
    config: DictConfig  # a checkpoint's own, else the command's
    label: str  # what tables call it
    kind: str  # of its row, see ``scores.Row``
    step: int | None
    directory: Path  # where its results go unless told otherwise


def load_subject(cfg: DictConfig) -> Subject:
    """The one of ``checkpoint=``, ``model=`` and ``results=`` that is given.

    Raises:
        ConfigError: none or several are given; CheckpointError, DataError: it cannot be read.
    """
    given = {
        "checkpoint=": bool(cfg.checkpoint),
        "model=": "_target_" in (cfg.get("model") or {}),
        "results=": bool(cfg.get("results")),
    }
    named = [key for key, there in given.items() if there]
    if not named:
        raise ConfigError(
            "name what to run: checkpoint=RUN_OR_FILE, or one without training: model=blocks"
        )
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} exclude each other; drop one")
    if given["checkpoint="]:
        return _load_checkpoint(cfg)
    runs = Path(cfg.paths.runs)
    if given["results="]:
        folder = Path(cfg.results)
        objective = StoredMasks(folder)
        name = folder.resolve().name
        return Subject(objective, cfg, f"results {name}", "model", None, runs / f"results_{name}")
    cfg = cfg.copy()
    cfg.image_size = cfg.image_size or UNTRAINED_IMAGE_SIZE
    built = build_objective(cfg)
    choices = HydraConfig.get().runtime.choices
    name = label = str(choices["model"])
    kind = "model"
    if isinstance(built, Trivial):
        label, kind = TRIVIAL_ROWS[name], "oracle" if built.oracle else "trivial"
    elif isinstance(built, FeaturesOnly):
        label = str(choices["backbone"])
    with_backbone = f"{name}-{choices['backbone']}" if hasattr(built, "backbone") else name
    return Subject(built, cfg, label, kind, None, runs / with_backbone)


def _load_checkpoint(cfg: DictConfig) -> Subject:
    path, content = checkpoint.find(cfg.checkpoint)
    stored = OmegaConf.create(content["config"])
    assert isinstance(stored, DictConfig)
    objective = build_objective(stored)
    checkpoint.load_weights(objective, content["objective"], str(path))
    step = content["step"]
    return Subject(objective, stored, "checkpoint", "model", step, path.parent.parent)
