"""Applying a model: eval scores it, predict segments the user's videos."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective, image_size_of
from slotreel.build import build_validations
from slotreel.command import command, say
from slotreel.data.inputs import open_input
from slotreel.errors import ConfigError, DataError
from slotreel.inference.predict import predict_video
from slotreel.interfaces import Objective
from slotreel.report import score, trivial_comparison_rows, write_report
from slotreel.runtime.distributed import World, choose_device
from slotreel.runtime.logging import setup_logging
from slotreel.scores import Comparison, Row
from slotreel.training import checkpoint

log = logging.getLogger(__name__)
TRIVIAL_IMAGE_SIZE = 224  # what a trivial row sees of a user's video, pixels


@command
def eval(cfg: DictConfig) -> None:
    """Score a checkpoint or a trivial row under named protocols; write scores.json and a table."""
    setup_logging(None, 0)
    device = choose_device(cfg.device, World())
    objective, trained, where = _load(cfg)
    validations = build_validations(cfg) or build_validations(trained)
    if not validations:
        raise ConfigError("nothing to score on; type validate=moving_shapes (or dataset=…)")
    size = image_size_of(trained)
    label = "checkpoint" if cfg.checkpoint else str(HydraConfig.get().runtime.choices["model"])
    kind = "last" if objective.trainable else "oracle" if objective.oracle else "trivial"
    comparisons = []
    for validation in validations:
        if not validation.labelled:
            raise DataError(f"validate.{validation.name} has no masks: there is nothing to score")
        rows = [Row(label, kind, score(objective, validation, size, device), where["step"])]
        if cfg.trivial_rows:
            rows[:0] = trivial_comparison_rows(
                validation,
                objective,
                num_slots=trained.num_slots,
                seed=trained.seed,
                image_size=size,
                device=device,
            )
        source = objective.mask_source(validation.protocol.masks)
        comparisons.append(Comparison(rows, trained.num_slots, source))
    output = Path(cfg.output or where["directory"] / "eval" / _name(validations))
    text = write_report(output, comparisons, checkpoint=str(cfg.checkpoint), step=where["step"])
    say(f"{text}\n\nwritten to {output}")


@command
def predict(cfg: DictConfig) -> None:
    """Segment videos: masks, overlay and slots of each into ``output``."""
    setup_logging(None, 0)
    for key in ("input", "output"):
        if not cfg[key]:
            raise ConfigError(
                f"{key}= is missing; type ./predict.py checkpoint=RUN input=VIDEO output=DIR"
            )
    device = choose_device(cfg.device, World())
    objective, trained, _ = _load(cfg)
    objective.to(device)
    for video in open_input(cfg.input):
        written = predict_video(
            objective,
            video.frames,
            video.info,
            Path(cfg.output),
            image_size=cfg.image_size or image_size_of(trained),
            device=device,
            masks=cfg.masks,
            chunk=cfg.chunk,
            fps=video.fps or cfg.fps,
        )
        log.info("%s: %d frames -> %s", video.name, written.num_frames, written.folder)


def _load(cfg: DictConfig) -> tuple[Objective, DictConfig, dict[str, Any]]:
    """The objective a command names: a checkpoint, or a trivial row (``model=…``)."""
    if not cfg.checkpoint:
        if "_target_" not in (cfg.get("model") or {}):
            raise ConfigError(
                "name what to run: checkpoint=RUN_OR_FILE, or a trivial row: model=blocks"
            )
        cfg = cfg.copy()
        cfg.image_size = cfg.image_size or TRIVIAL_IMAGE_SIZE
        return build_objective(cfg), cfg, {"step": None, "directory": Path(cfg.paths.runs)}
    if "_target_" in (cfg.get("model") or {}):
        raise ConfigError("checkpoint= and model= exclude each other; drop one")
    path, content = checkpoint.find(cfg.checkpoint)
    stored = OmegaConf.create(content["config"])
    assert isinstance(stored, DictConfig)
    objective = build_objective(stored)
    checkpoint.load_weights(objective, content["objective"], str(path))
    return objective, stored, {"step": content["step"], "directory": path.parent.parent}


def _name(validations: list[Any]) -> str:
    return "+".join(f"{v.name}-{v.protocol.name}" for v in validations)
