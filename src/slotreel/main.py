"""The table of contents of a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from slotreel.assemble import parts_table
from slotreel.build import build_run
from slotreel.command import command
from slotreel.errors import ConfigError
from slotreel.feature_cache.live import with_live_backbone
from slotreel.feature_cache.using import check_features
from slotreel.files import held, write_text
from slotreel.finishing import finish
from slotreel.importing.hub import locate
from slotreel.loggers import open_sinks, remember_facts, stored_facts
from slotreel.resume import settle, start_from, starting_point
from slotreel.runtime.distributed import (
    World,
    choose_device,
    joined,
    share_object,
)
from slotreel.runtime.job import check_time_limit, cpus, patience_s
from slotreel.runtime.logging import Sink, setup_logging
from slotreel.runtime.signals import ignore_time_limit
from slotreel.training import checkpoint
from slotreel.training.loop import fit
from slotreel.training.run import Run

log = logging.getLogger(__name__)


@command
def train(cfg: DictConfig) -> int:
    """Train, validate, report; the exit code is that of a signal that stopped it."""
    started = time.perf_counter()
    hydra = HydraConfig.get()
    with joined("cuda" if _wants_cuda(cfg) else "cpu", cfg.trainer.timeout_minutes) as world:
        check_time_limit(hydra.launcher)
        device = choose_device(cfg.trainer.device, world)
        _set_threads(cfg.trainer.num_threads)
        directory = Path(share_object(str(Path(hydra.runtime.output_dir).resolve())))
        lock = held(directory / ".lock", patience_s())
        with lock if world.is_main else nullcontext(True) as free:
            if not share_object(free):
                raise ConfigError(
                    f"another process trains in {directory}; wait for it, or start this one in a "
                    "directory of its own: hydra.run.dir=DIR"
                )
            setup_logging(directory, world.rank)
            code = _train(cfg, hydra, world, device, directory, started)
            if code == 0:
                ignore_time_limit()
            return code


def _train(
    cfg: DictConfig,
    hydra: Any,
    world: World,
    device: torch.device,
    directory: Path,
    started: float,
) -> int:
    """A run from its configuration to its report; returns the exit code."""
    cfg = with_live_backbone(cfg)
    cfg, resuming = settle(cfg, directory, list(hydra.overrides.task))

    def sinks() -> list[Sink]:
        if not world.is_main:
            return []
        source = directory if resuming else cfg.clone and locate(cfg.clone)
        remember_facts(cfg, directory, stored_facts(source))
        return open_sinks(cfg, directory, facts=stored_facts(directory))

    start = starting_point(directory, cfg.init_from, resuming)
    fetch = start is None or not checkpoint.holds_everything(start.content)
    run = build_run(cfg, world, device, directory, sinks, weights=fetch)
    if world.is_main:
        _introduce(run, cfg)
    if start is not None:
        start_from(run, start, resuming)
        del start  # as large as the model and its optimizer
    check_features(cfg, run.objective, device)
    try:
        with _profiled(directory) if cfg.trainer.profile else nullcontext():
            code = fit(run)
        if code == 0:
            finish(run, cfg, started)
    finally:
        run.logger.close()
    return code


def _set_threads(number: int | None) -> None:
    """One core is left to the loader: with all of them the default run is slower (measured)."""
    if number is None and "OMP_NUM_THREADS" not in os.environ:
        number = max(1, cpus() - 1)
    if number is not None:
        torch.set_num_threads(number)


@contextmanager
def _profiled(directory: Path) -> Iterator[None]:
    """Write where the time went to profile.txt (``debug=profile``)."""
    with torch.profiler.profile() as profile:
        yield
    table = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
    (directory / "profile.txt").write_text(table, encoding="utf-8")
    log.info("operations by their own time: %s", directory / "profile.txt")


def _wants_cuda(cfg: DictConfig) -> bool:
    device = cfg.trainer.device
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())


def _introduce(run: Run, cfg: DictConfig) -> None:
    """Store the configuration, point runs/latest here, print what is about to be trained."""
    write_text(run.directory / "config.yaml", run.config)
    _point_latest(Path(cfg.paths.runs), run.directory)
    log.info("run directory %s, device %s", run.directory, run.device)
    gpus = torch.cuda.device_count()
    if run.device.type == "cuda" and run.world.size < gpus:
        log.info(
            "%d GPUs are here; use them all: torchrun --nproc_per_node=%d train.py", gpus, gpus
        )
    for name, kind, total, trained in parts_table(run.objective):
        log.info("  %-12s %-24s %10d parameters, %10d trained", name, kind, total, trained)


def _point_latest(runs: Path, directory: Path) -> None:
    link = runs / "latest"
    try:
        temporary = runs / f".latest-{os.getpid()}"
        temporary.symlink_to(os.path.relpath(directory, runs))
        os.replace(temporary, link)
    except OSError as error:  # e.g. a file system without links
        log.warning("could not point %s to this run (%s)", link, error)
