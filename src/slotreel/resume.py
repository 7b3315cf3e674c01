"""Going on with a run: which configuration counts, what may change, what is restored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from slotreel.errors import CheckpointError, ConfigError
from slotreel.importing.hub import locate
from slotreel.interfaces import Objective
from slotreel.training import checkpoint
from slotreel.training.run import Best, Run

log = logging.getLogger(__name__)

CHANGEABLE = (
    "sweep_name",
    "logger",
    "paths",
    "resume",
    "feature_cache",
    "trainer.device",
    "trainer.num_workers",
    "trainer.num_threads",
    "trainer.timeout_minutes",
    "trainer.save_every",
    "trainer.log_every",
    "trainer.keep",
    "trainer.health_videos",
    "trainer.media_clips",
    "trainer.media_frames",
)


_SHOWN = 12  # keys that differ


class Start(NamedTuple):
    """A checkpoint to start from."""

    path: Path
    content: dict[str, Any]


_GLOBAL = {"experiment", "debug", "sweep", "cluster"}  # groups that may set any key


def settle(cfg: DictConfig, directory: Path, overrides: list[str]) -> tuple[DictConfig, bool]:
    """The configuration that counts, and whether ``directory`` holds a run to go on with.

    Args:
        cfg: the configuration just composed.
        directory: of the run.
        overrides: what the user typed.

    Raises:
        ConfigError: ``resume=`` names no run, or its configuration differs, see ``reconcile``.
        CheckpointError: ``clone=`` names no run.
    """
    stored = stored_config(directory)
    if stored is None and cfg.resume:
        raise ConfigError(
            f"resume={cfg.resume}: no run with a checkpoint there; start one without resume="
        )
    if cfg.clone and not cfg.resume:
        cfg = cloned(cfg, locate(cfg.clone), overrides)
    if stored is None:
        return cfg, False
    return reconcile(cfg, stored, overrides if cfg.resume else None), True


def stored_config(directory: Path) -> DictConfig | None:
    """The resolved configuration a run was started with, or None if there is no run yet."""
    path = directory / "config.yaml"
    if not path.is_file() or not checkpoint.steps_saved(directory):
        return None
    return _as_dict(OmegaConf.load(path))


def _as_dict(cfg: Any) -> DictConfig:
    assert isinstance(cfg, DictConfig)
    return cfg


def reconcile(cfg: DictConfig, stored: DictConfig, overrides: list[str] | None) -> DictConfig:
    """The stored configuration with what may change taken from ``cfg``.

    Args:
        cfg: the configuration just composed.
        stored: the run's own.
        overrides: what the user typed, if only that shall be compared (``resume=RUN`` alone means:
            as it was); None compares everything (a requeued job).

    Raises:
        ConfigError: something else differs, listing the keys and both values.
    """
    new, old = _flat(cfg), _flat(stored)
    typed = None if overrides is None else [_key(override) for override in overrides]
    if typed is not None and _GLOBAL.intersection(typed):
        typed = None  # such a group may have set anything
    changed = {
        key
        for key in new.keys() | old.keys()
        if new.get(key) != old.get(key) and (typed is None or _under(key, typed))
    }
    refused = sorted(key for key in changed if not _under(key, CHANGEABLE))
    if refused:
        lines = [f"  {k}: {old.get(k, '(absent)')} -> {new.get(k, '(absent)')}" for k in refused]
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise ConfigError(
            "a run keeps its configuration when it is resumed; these differ:\n"
            + "\n".join([*lines[:_SHOWN], *more])
            + "\nDrop them to go on, or start a new run from its weights with init_from=RUN"
        )
    merged = stored.copy()
    OmegaConf.set_struct(merged, False)
    for key in CHANGEABLE:
        if any(_under(name, [key]) for name in changed):
            OmegaConf.update(merged, key, OmegaConf.select(cfg, key), merge=False)
    return merged


def cloned(cfg: DictConfig, directory: Path, overrides: list[str]) -> DictConfig:
    """The configuration of another run with what was typed on top (``clone=RUN``).

    Raises:
        CheckpointError: there is no run at ``directory``.
        ConfigError: an experiment was typed as well.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"clone={directory}: there is no config.yaml; pass a run directory")
    copy = _as_dict(OmegaConf.load(path))
    keys = [_key(override) for override in [*overrides, "paths="]]
    mixed = sorted(_GLOBAL.intersection(keys))
    if mixed:
        raise ConfigError(f"clone= brings the whole configuration; drop {mixed[0]}=")
    for key in keys:
        if key != "clone":
            value = OmegaConf.select(cfg, key)
            OmegaConf.update(copy, key, value, merge=False, force_add=True)
    return copy


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _under(key: str, prefixes: Any) -> bool:
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Leaves by dotted key, interpolations resolved."""
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            flat[prefix] = node

    walk(OmegaConf.to_container(cfg, resolve=True), "")
    return flat


def starting_point(directory: Path, init_from: str | None, resuming: bool) -> Start | None:
    """The checkpoint training starts from: the run's newest, or the one of ``init_from=``.

    Raises:
        CheckpointError: none can be read, or the run was imported, so that there is no optimizer.
    """
    if not resuming:
        return Start(*checkpoint.find(locate(init_from))) if init_from else None
    found = checkpoint.newest(directory)
    if found is None:
        raise CheckpointError(
            f"no checkpoint under {directory}/checkpoints can be read; start a new run"
        )
    start = Start(*found)
    if start.content["optimizer"] is None:
        raise CheckpointError(
            f"{directory} was imported and holds weights alone; train on in a run of its own: "
            f"./train.py clone={directory} init_from={directory}"
        )
    return start


def start_from(run: Run, start: Start, resuming: bool) -> None:
    """Go on where a checkpoint of this run stopped, or begin with the weights of another.

    Raises:
        CheckpointError: it belongs to another model.
    """
    if resuming:
        _restore(run, start)
        return
    start_weights(run.objective, start)
    log.info("weights from %s", start.path)


def start_weights(objective: Objective, start: Start) -> None:
    """Fill a model with the weights of a checkpoint.

    Raises:
        CheckpointError: it belongs to another model.
    """
    checkpoint.load_objective(objective, start.content, str(start.path))


def _restore(run: Run, start: Start) -> None:
    content = start.content
    where = f"step {content['step']} of {run.directory}"
    checkpoint.load_objective(run.objective, content, where)
    run.optimizer.torch.load_state_dict(content["optimizer"])
    run.state.step = content["step"]
    run.state.evaluated_step = content["evaluated_step"]
    run.state.hours = content.get("hours", 0.0)
    run.state.best = None if content["best"] is None else Best(*content["best"])
    log.info("resumed %s at step %d", run.directory, run.state.step)
