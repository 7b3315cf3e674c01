"""What a sweep would do: every point composed, named, judged, and its state looked up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.build import build_parts
from slotreel.cli import is_hydra
from slotreel.composing import task_config
from slotreel.errors import ConfigError, UserError
from slotreel.feature_cache.live import with_live_backbone
from slotreel.resume import settle, start_weights, starting_point
from slotreel.runtime.distributed import World
from slotreel.runtime.logging import errors_only
from slotreel.sweeps.names import point_name
from slotreel.sweeps.state import State, read_points, state
from slotreel.sweeps.state import queue as slurm_queue
from slotreel.training import checkpoint

Compose = Callable[[Sequence[str]], DictConfig]  # overrides -> configuration with Hydra's part
_SAME = ("seed", "name", "sweep_name", "logger", "paths.runs")  # judged alike whatever these are


class Point(NamedTuple):
    """One run of a sweep."""

    overrides: list[str]  # as typed, of this point
    name: str
    cfg: DictConfig
    state: State


def compose_points(
    rows: Iterable[Sequence[str]], compose: Compose, sweep: Path
) -> tuple[list[Point], dict[str, str]]:
    """Every point that composes, and why the others do not, by what was typed."""
    points, refused = [], {}
    known = read_points(sweep)
    jobs = slurm_queue() if any(entry["job"] for entry in known.values()) else {}
    kept = HydraConfig.instance().cfg
    for overrides in map(list, rows):
        try:
            cfg = task_config(compose(overrides))
        except Exception as error:
            if not (is_hydra(error) or isinstance(error, UserError)):
                raise
            refused[" ".join(overrides)] = str(error).strip()
            continue
        finally:
            HydraConfig.instance().cfg = kept
        name = point_name(overrides, cfg.seed)
        now = state(sweep / name, known.get(name, {}).get("job"), jobs)
        points.append(Point(overrides, name, cfg, now))
    twice = [name for name, number in Counter(p.name for p in points).items() if number > 1]
    for name in twice:
        refused[name] = "typed more than once: each point needs a value of its own"
    return points, refused


def judge(points: Sequence[Point], sweep: Path, ranks: int) -> dict[str, str]:
    """Why points are refused, by name: what their runs would say themselves before the first batch.

    Parts are built once for points that differ in nothing that matters to them, e.g. in the seed;
    weights are fetched here, so that jobs find them in the cache.

    Args:
        points: composed.
        sweep: its folder, where a point may have been begun with another configuration.
        ranks: processes of each run, between which the batch is divided.
    """
    answers: dict[str, str | None] = {}
    refused = {}
    with errors_only():
        for point in points:
            answer = _answer(point, sweep / point.name, ranks, answers)
            if answer is not None:
                refused[point.name] = answer
    return refused


def _answer(point: Point, run: Path, ranks: int, known: dict[str, str | None]) -> str | None:
    try:
        cfg, resuming = settle(with_live_backbone(point.cfg), run, point.overrides)
    except UserError as error:
        return str(error)
    if point.state.state == "finished":
        return None
    key = str(run) if resuming else _without(cfg, _SAME)
    if key not in known:
        known[key] = _refusal(cfg, run, ranks, resuming)
    return known[key]


def _without(cfg: DictConfig, keys: Iterable[str]) -> str:
    copy = cfg.copy()
    OmegaConf.set_struct(copy, False)
    for key in keys:
        OmegaConf.update(copy, key, None, merge=False)
    return OmegaConf.to_yaml(copy, resolve=True)


def _refusal(cfg: DictConfig, run: Path, ranks: int, resuming: bool) -> str | None:
    try:
        start = starting_point(run, cfg.init_from, resuming)
        fetch = start is None or not checkpoint.holds_everything(start.content)
        parts = build_parts(cfg, World(0, ranks, 0), torch.device("cpu"), weights=fetch)
        if start is not None:
            start_weights(parts.objective, start)
    except Exception as error:  # Hydra wraps what a constructor raises
        cause = error if isinstance(error, UserError) else error.__cause__
        return str(cause) if isinstance(cause, UserError) else f"{type(error).__name__}: {error}"
    return None


def refusal(refused: dict[str, str], total: int) -> ConfigError:
    """The error that lists bad points; equal answers stand once."""
    names: dict[str, list[str]] = {}
    for name, message in refused.items():
        names.setdefault(message, []).append(name)
    lines = [f"  {', '.join(where)}:\n    {_indented(what)}" for what, where in names.items()]
    return ConfigError(
        f"{len(refused)} of {total} points cannot run, so none was started:\n" + "\n".join(lines)
    )


def _indented(message: str) -> str:
    return message.replace("\n", "\n    ")
