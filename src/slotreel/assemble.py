"""From configuration to an objective: parts made in the order in which they must know each other.

backbone -> dims -> grouper -> dims -> losses -> needs -> the rest: each part is made knowing what
it must, and a decoder, head or tokenizer nobody needs is not made.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from slotreel.ema import matching
from slotreel.errors import ConfigError, nearest
from slotreel.feature_cache.live import with_live_backbone
from slotreel.interfaces import Backbone, Grouper, Loss, Objective, Part
from slotreel.model import SlotVideoModel
from slotreel.noise import Noise, seed_of
from slotreel.runtime.distributed import World, gather_with_gradient
from slotreel.types import Dims, HeadSpec, Needs

log = logging.getLogger(__name__)


def make(cfg: Any) -> Callable[..., Any]:
    """The constructor a config names, with its YAML arguments; call it with runtime facts.

    Raises:
        ConfigError: an argument it does not take, e.g. of a configuration stored long ago.
    """
    known = inspect.signature(get_object(cfg["_target_"])).parameters
    unknown = [k for k in cfg if not str(k).startswith("_") and k not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        raise ConfigError(
            f"{cfg['_target_']} takes no argument {unknown[0]}; {nearest(unknown[0], known)}"
        )
    return instantiate(cfg, _partial_=True, _convert_="all")


def image_size_of(cfg: DictConfig) -> tuple[int, int]:
    """``image_size`` as (H, W)."""
    size = cfg.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def build_objective(
    cfg: DictConfig, world: World | None = None, *, weights: bool = True
) -> Objective:
    """The objective ``cfg.model`` names, given those facts its constructor asks for by name.

    Args:
        cfg: a resolved or composed configuration.
        world: this process among its peers.
        weights: fetch or read those the backbone starts from; False where a checkpoint that holds
            all of them is loaded next.

    Raises:
        ConfigError: parts that do not fit together, with what to type instead.
    """
    world = world or World()
    cfg = with_live_backbone(cfg)
    if not weights and "weights" in (cfg.get("backbone") or {}):
        cfg = cfg.copy()
        cfg.backbone.weights = "random"
    elif OmegaConf.select(cfg, "backbone.weights") == "random":
        log.info("the backbone has random weights: its features mean little")
    torch.manual_seed(seed_of(cfg.seed, "parameters"))
    wanted = inspect.signature(get_class(cfg.model["_target_"])).parameters
    facts: dict[str, Any] = {
        "gather": gather_with_gradient,
        "noise": Noise(cfg.seed, rank=world.rank, world_size=world.size),
        "seed": cfg.seed,
        "num_slots": cfg.num_slots,
        "image_size": image_size_of(cfg),
    }
    if "model" in wanted:
        facts["model"], facts["losses"] = _slot_parts(cfg)
    if "backbone" in wanted:
        facts["backbone"] = build_backbone(cfg)
    known = {name: fact for name, fact in facts.items() if name in wanted}
    objective: Objective = make(cfg.model)(**known)
    for _, part in objective.named_modules():
        if isinstance(part, Part):
            _set_aside(part, part.without_gradient())
    return objective


def build_backbone(cfg: DictConfig) -> Backbone:
    """The backbone, for frames of ``image_size``."""
    cfg = with_live_backbone(cfg)
    return make(cfg.backbone)(image_size=image_size_of(cfg))


def _slot_parts(cfg: DictConfig) -> tuple[SlotVideoModel, dict[str, Loss]]:
    backbone = build_backbone(cfg)
    size = image_size_of(cfg)
    dims = Dims(
        feature=backbone.feature_width,
        slot=cfg.slot_dim,
        num_queries=cfg.num_slots,
        num_slots=cfg.num_slots,
        grid=backbone.grid(size),
        image_size=size,
        clip_length=cfg.clip_length,
        key_width=backbone.key_width,
    )
    grouper: Grouper = make(cfg.grouper)(dims=dims)
    dims = dims._replace(num_queries=grouper.num_queries, num_slots=grouper.num_slots)
    tokenizer = _tokenizer(cfg, dims)
    if tokenizer is not None:
        dims = dims._replace(vocab=tokenizer.vocab)
    losses = _losses(cfg, dims)
    needs = {name: loss.needs for name, loss in losses.items()}
    _check(cfg, needs, has_tokenizer=tokenizer is not None)
    _check_targets(cfg, needs, backbone)
    _check_levels(losses, grouper)
    targets = {name: target for need in needs.values() for name, target in need.decode.items()}
    heads = {name: spec for need in needs.values() for name, spec in need.heads.items()}
    model = SlotVideoModel(
        backbone=backbone,
        projector=make(cfg.projector)(dims=dims),
        initializer=make(cfg.initializer)(dims=dims),
        grouper=grouper,
        predictor=make(cfg.predictor)(dims=dims),
        decoder=make(cfg.decoder)(dims=dims, targets=targets) if targets else None,
        heads={name: _head(spec) for name, spec in heads.items()},
        tokenizer=tokenizer,
        want=frozenset().union(*(need.features for need in needs.values())),
    )
    if cfg.clip_length == 1:  # nothing follows the only frame, so the predictor cannot learn
        _set_aside(model.predictor, {name for name, _ in model.predictor.named_parameters()})
    return model, losses


def _losses(cfg: DictConfig, dims: Dims) -> dict[str, Loss]:
    losses = {}
    for name, spec in cfg.losses.items():
        if "_target_" not in spec:
            raise ConfigError(
                f"losses.{name} is tuned ({', '.join(spec)}) but not selected; add it: "
                f"losses=[...,{name}], or drop losses.{name}.*"
            )
        losses[name] = make(spec)(dims=dims)
    if not losses:
        raise ConfigError("losses is empty: nothing to train; type losses=ss_contrastive")
    return losses


def _tokenizer(cfg: DictConfig, dims: Dims) -> Any:
    spec = cfg.get("tokenizer") or {}
    return make(spec)(image_size=dims.image_size) if "_target_" in spec else None


def _head(spec: HeadSpec) -> nn.Module:
    if not spec.hidden:
        return nn.Linear(spec.inputs, spec.outputs)
    return nn.Sequential(
        nn.Linear(spec.inputs, spec.hidden), nn.ReLU(), nn.Linear(spec.hidden, spec.outputs)
    )


def _set_aside(part: nn.Module, names: set[str]) -> None:
    """Freeze parameters that get no gradient by design, so that DDP does not wait for them."""
    parameters = dict(part.named_parameters())
    for name in names:
        parameters[name].requires_grad_(False)


def _check_targets(cfg: DictConfig, needs: Mapping[str, Needs], backbone: Backbone) -> None:
    """Refuse features as targets where they can be made easy to meet."""
    names = [f"backbone.{name}" for name in backbone.state_dict()]
    teacher_stays = matching(names, cfg.model.get("ema_keeps") or []) == set(names)
    for name, need in needs.items():
        if not need.frozen_target or backbone.frozen or (need.teacher and teacher_stays):
            continue
        others = [n for n, other in needs.items() if not other.frozen_target]
        keep = ", or model.ema_keeps=[backbone.*]" if need.teacher else ""
        raise ConfigError(
            f"losses.{name} compares with features of a backbone that is being trained, so it "
            f"can be met by collapsing them. Type backbone=patches (or another frozen one){keep}, "
            f"or losses=[{','.join(dict.fromkeys(['pixel_rec', *others]))}]"
        )


def _check_levels(losses: Mapping[str, Loss], grouper: Grouper) -> None:
    """Refuse losses on levels that the grouper does not have."""
    for name, loss in losses.items():
        chosen = {loss.level} - {"auto", "slots"}
        needed = loss.needs.levels | chosen
        if not needed <= grouper.levels:
            has = ", ".join(sorted(grouper.levels)) or "none"
            instead = f"losses.{name}.level=auto, or grouper=smtc" if chosen else "grouper=smtc"
            raise ConfigError(
                f"losses.{name} needs slots of the levels {', '.join(sorted(needed))}, but "
                f"{type(grouper).__name__} has {has}; type {instead}"
            )


def _check(cfg: DictConfig, needs: Mapping[str, Needs], has_tokenizer: bool) -> None:
    """Refuse, before the first batch, what cannot work; say what to type instead."""
    for name, need in needs.items():
        if need.min_frames > cfg.clip_length:
            raise ConfigError(
                f"losses.{name} compares frames: it needs clip_length >= {need.min_frames}, but "
                f"clip_length={cfg.clip_length}; type clip_length={need.min_frames}"
            )
        if need.tokenizer and not has_tokenizer:
            raise ConfigError(f"losses.{name} needs discrete tokens; type tokenizer=dvae")
        if need.decode and "_target_" not in (cfg.get("decoder") or {}):
            raise ConfigError(
                f"losses.{name} needs a decoder ({', '.join(need.decode)}); type decoder=mlp, or "
                f"drop losses.{name}"
            )
        if need.batch_wide and cfg.trainer.accumulate > 1:
            raise ConfigError(
                f"losses.{name} relates all clips of a batch, which trainer.accumulate="
                f"{cfg.trainer.accumulate} would split; type trainer.accumulate=1"
            )


def parts_table(objective: Objective) -> list[tuple[str, str, int, int]]:
    """(part, class, parameters, trainable parameters) of an objective, for the start of the log."""
    rows = []
    owner = getattr(objective, "model", objective)
    for name, part in owner.named_children():
        counts = [(p.numel(), p.requires_grad) for p in part.parameters()]
        if counts or isinstance(part, Part):
            trained = sum(n for n, on in counts if on)
            rows.append((name, type(part).__name__, sum(n for n, _ in counts), trained))
    return rows
