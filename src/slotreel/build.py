"""From configuration to a run: data, validation, optimizer and logger around an objective.

With ``assemble``, the only file that calls ``instantiate``.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_objective, image_size_of, make
from slotreel.data.augment import Augmentation
from slotreel.data.clips import TrainingClips
from slotreel.data.loader import training_loader
from slotreel.errors import ConfigError, nearest
from slotreel.feature_cache.live import with_live_backbone
from slotreel.feature_cache.using import augment_seen, cached_clips
from slotreel.health import watch_slots
from slotreel.interfaces import Objective
from slotreel.mask_clips import draw_clips
from slotreel.optimizing import build_optimizer
from slotreel.protocols.protocol import Protocol
from slotreel.runtime.distributed import World
from slotreel.runtime.logging import RunLogger, Sink
from slotreel.training.optim import Optimizer
from slotreel.training.run import Run, TrainerSettings, Validation

log = logging.getLogger(__name__)


def build_validations(cfg: DictConfig, options: DictConfig | None = None) -> list[Validation]:
    """Validation sets: ``validate=…`` or the data set's own; ``protocol=…`` replaces theirs.

    Args:
        cfg: names the sets.
        options: names protocol, propagation and tracks, if not ``cfg`` itself.

    Raises:
        ConfigError: a set that lacks data or protocol, or a protocol that is not for that set.
    """
    options = cfg if options is None else options
    sets = cfg.get("validate") or (cfg.get("dataset") or {}).get("validation") or {}
    validations = []
    for name, spec in sets.items():
        if spec is None:  # validate=none
            continue
        missing = {"data", "protocol"} - set(spec)
        if missing:
            raise ConfigError(f"validate.{name} lacks {', '.join(sorted(missing))}")
        chosen = _protocol_of(spec.protocol, options)
        protocol = make(chosen)()
        data = _data_of(name, spec.data, protocol)
        source = make(data)()
        clip = source.read(0, [0])
        labelled = clip.labels is not None or "keypoints" in clip.hints
        if not labelled:
            log.warning("validate.%s has no masks: its videos are drawn, not scored", name)
        settings = {"data": _plain(data), "protocol": _plain(chosen)}
        validations.append(Validation(name, source, protocol, labelled, settings))
    return validations


def _plain(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def _protocol_of(own: DictConfig, options: DictConfig) -> DictConfig:
    """The protocol of a set, or the one that was named, with propagation and tracks as named."""
    chosen: DictConfig = (options.get("protocol") or own).copy()
    propagation, tracks = options.get("propagation"), options.get("tracks")
    if tracks:
        chosen.tracks = tracks
        chosen.name = f"{chosen.name}_tracks"  # another protocol: never in one column with its own
    if not propagation:
        return chosen
    if not chosen.through:
        raise ConfigError(
            f"propagation= needs a protocol that spreads labels, and {chosen.name} scores a "
            "model's own masks; type protocol=davis2017_propagation"
        )
    chosen.through = propagation
    return chosen


def _data_of(name: str, data: DictConfig, protocol: Protocol) -> DictConfig:
    """Arguments of a set with those that its protocol fixes."""
    known = inspect.signature(get_class(data["_target_"])).parameters
    for key, value in protocol.data.items():
        if key not in known:
            raise ConfigError(
                f"protocol {protocol.name} is defined on data with {key}={value}, but the data of "
                f"validate.{name} has no {key}; type validate={protocol.name} instead of protocol="
            )
    own = OmegaConf.create(_plain(data))  # a struct takes no new key
    return cast(DictConfig, OmegaConf.merge(own, protocol.data))


def build_settings(cfg: DictConfig, world: World) -> TrainerSettings:
    """``conf/trainer`` with the batch checked against ranks and accumulation.

    Raises:
        ConfigError: the global batch cannot be divided.
    """
    trainer = cfg.trainer
    parts = world.size * trainer.accumulate
    if trainer.batch_size % parts:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} is global and must be divisible by "
            f"{world.size} processes x accumulate {trainer.accumulate}; type "
            f"trainer.batch_size={max(1, round(trainer.batch_size / parts)) * parts}"
        )
    for key, known in {"precision": ["fp32", "tf32", "bf16"], "mode": ["max", "min"]}.items():
        if trainer[key] not in known:
            raise ConfigError(f"trainer.{key}={trainer[key]}; {nearest(trainer[key], known)}")
    log.info(
        "batch: %d clips = %d per process x %d processes (accumulate %d)",
        trainer.batch_size,
        trainer.batch_size // world.size,
        world.size,
        trainer.accumulate,
    )
    return TrainerSettings(**{field.name: trainer[field.name] for field in fields(TrainerSettings)})


class Parts(NamedTuple):
    """All of a run that can be refused: what is left is to write and to train."""

    settings: TrainerSettings
    objective: Objective
    clips: TrainingClips
    augmentations: list[Augmentation]
    validations: list[Validation]
    optimizer: Optimizer


def build_parts(cfg: DictConfig, world: World, device: torch.device, weights: bool = True) -> Parts:
    """The parts of a run, which writes nothing; ``weights`` as in ``build_objective``.

    Raises:
        ConfigError: something does not fit; DataError: data is missing or damaged.
    """
    cfg = with_live_backbone(cfg)
    settings = build_settings(cfg, world)
    objective = build_objective(cfg, world, weights=weights)
    if not objective.trainable:
        raise ConfigError(
            f"{type(objective).__name__} has nothing to train; score it with ./eval.py model=... "
            "instead of ./train.py"
        )
    augmentations = [make(step)() for step in cfg.dataset.augment]
    clips = build_clips(cfg, objective, augmentations)
    validations = build_validations(cfg)
    objective.to(device)
    optimizer = build_optimizer(cfg, objective)
    return Parts(settings, objective, clips, augmentations, validations, optimizer)


def build_clips(
    cfg: DictConfig, objective: Objective, augmentations: list[Augmentation]
) -> TrainingClips:
    """The training set, with features from disk if ``feature_cache`` says where."""
    arguments: dict[str, Any] = {
        "source": make(cfg.dataset.source)(),
        "clip_length": cfg.clip_length,
        "frame_stride": cfg.frame_stride,
        "transforms": [make(step)() for step in cfg.dataset.transform],
        "seed": cfg.seed,
        "starts": cfg.clip_starts,
    }
    if cfg.get("feature_cache"):
        return cached_clips(cfg, objective, augment=augmentations, **arguments)
    return TrainingClips(num_views=objective.views, **arguments)


def build_run(
    cfg: DictConfig,
    world: World,
    device: torch.device,
    directory: Path,
    sinks: Callable[[], list[Sink]],
    weights: bool = True,
) -> Run:
    """Everything the loop works on; ``sinks`` is called last, when all parts fit.

    ``weights`` as in ``build_objective``.

    Raises:
        ConfigError: something does not fit; DataError: data is missing or damaged.
    """
    if cfg.trainer.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    torch.autograd.set_detect_anomaly(cfg.trainer.detect_anomaly)
    settings, objective, clips, augmentations, validations, optimizer = build_parts(
        cfg, world, device, weights
    )
    loader = functools.partial(
        training_loader,
        clips,
        batch_size=settings.batch_size,
        seed=cfg.seed,
        rank=world.rank,
        world_size=world.size,
        num_workers=cfg.trainer.num_workers,
        device=device,
    )
    return Run(
        directory=directory,
        seed=cfg.seed,
        image_size=image_size_of(cfg),
        settings=settings,
        world=world,
        device=device,
        objective=objective,
        optimizer=optimizer,
        batches=lambda step: loader(start_step=step),
        augment=lambda batch, step: augment_seen(batch, augmentations, cfg.seed, step),
        validations=validations,
        watch=functools.partial(
            watch_slots,
            image_size=image_size_of(cfg),
            device=device,
            num_videos=cfg.trainer.get("health_videos") or 0,
        ),
        draw=functools.partial(
            draw_clips,
            directory=directory,
            image_size=image_size_of(cfg),
            device=device,
            num_clips=cfg.trainer.get("media_clips") or 0,
            num_frames=cfg.trainer.get("media_frames") or 24,
        ),
        logger=RunLogger(directory, sinks(), enabled=world.is_main, num_steps=settings.num_steps),
        config=OmegaConf.to_yaml(cfg, resolve=True),
    )
