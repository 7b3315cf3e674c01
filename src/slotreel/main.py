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
from slotreel.command import command, say
from slotreel.errors import ConfigError
from slotreel.files import held, write_text
from slotreel.importing.hub import locate
from slotreel.loggers import chosen_logger, open_sinks
from slotreel.protocols.symptoms import flat_health
from slotreel.report import (
    published_rows,
    score,
    show_scores,
    write_pictures,
    write_report,
)
from slotreel.resume import cloned, reconcile, start_from, starting_point, stored_config
from slotreel.runtime.distributed import (
    World,
    choose_device,
    close_distributed,
    init_distributed,
    share_object,
)
from slotreel.runtime.job import check_time_limit, cpus, patience_s
from slotreel.runtime.logging import FILE_ONLY, Sink, setup_logging
from slotreel.runtime.provenance import describe_code
from slotreel.runtime.signals import ignore_time_limit
from slotreel.scores import Comparison, Row, flat_scores
from slotreel.training import checkpoint
from slotreel.training.evaluate import check_health, evaluate
from slotreel.training.loop import fit
from slotreel.training.run import Run, Validation
from slotreel.trivial_log import Place
from slotreel.trivial_runs import beside, trivial_comparison_rows

log = logging.getLogger(__name__)


@command
def train(cfg: DictConfig) -> int:
    """Train, validate, report; the exit code is that of a signal that stopped it."""
    started = time.perf_counter()
    hydra = HydraConfig.get()
    world = init_distributed("cuda" if _wants_cuda(cfg) else "cpu")
    try:
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
    finally:
        close_distributed()


def _train(
    cfg: DictConfig,
    hydra: Any,
    world: World,
    device: torch.device,
    directory: Path,
    started: float,
) -> int:
    """A run from its configuration to its report; returns the exit code."""
    cfg, resuming = _settle(cfg, directory, list(hydra.overrides.task))

    def sinks() -> list[Sink]:
        return open_sinks(cfg, directory) if world.is_main else []

    start = starting_point(directory, cfg.init_from, resuming)
    fetch = start is None or not checkpoint.holds_everything(start.content)
    run = build_run(cfg, world, device, directory, sinks, weights=fetch)
    if world.is_main:
        _introduce(run, cfg)
    if start is not None:
        start_from(run, start, resuming)
        del start  # as large as the model and its optimizer
    try:
        with _profiled(directory) if cfg.trainer.profile else nullcontext():
            code = fit(run)
        if code == 0:
            _finish(run, cfg, started)
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


def _settle(cfg: DictConfig, directory: Path, overrides: list[str]) -> tuple[DictConfig, bool]:
    """The configuration that counts: the stored one if this directory holds a run already."""
    stored = stored_config(directory)
    if stored is None:
        if cfg.resume:
            raise ConfigError(
                f"resume={cfg.resume}: no run with a checkpoint there; start one without resume="
            )
        if cfg.clone:
            cfg = cloned(cfg, locate(cfg.clone), overrides)
        return cfg, False
    typed = overrides if cfg.resume else None
    return reconcile(cfg, stored, typed), True


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


def _finish(run: Run, cfg: DictConfig, started: float) -> None:
    """Final scores beside trivial rows, pictures, and what to type next."""
    tables = run.state.tables or evaluate(run, stop=lambda: False)
    assert tables is not None
    if run.state.tables is None:  # the run was finished before this process began
        check_health(run)
    if run.world.is_main:
        comparisons = []
        for validation in run.validations:
            if not validation.labelled:
                continue
            table = tables[validation.name]
            rows = [Row("this run", "last", table, run.state.step), *_best_row(run, validation)]
            trivial = _trivial(run, cfg, validation) if cfg.trainer.trivial_rows else []
            health = run.state.health[validation.name]
            values = flat_scores(rows[0], trivial) | flat_health(validation.name, health)
            run.logger.log(run.state.step, values)
            run.logger.summary({f"last/{key}": value for key, value in values.items()})
            source = run.objective.mask_source(validation.protocol.masks)
            papers, every = published_rows(cfg), [*trivial, *rows]
            comparisons.append(Comparison(every, cfg.num_slots, source, papers, health=health))
        if run.state.best is not None:  # selected with labels
            run.logger.summary({f"best/{name}": x for name, x in run.state.best._asdict().items()})
        minutes = {
            "wall_minutes": (time.perf_counter() - started) / 60,
            "cpu_minutes": time.process_time() / 60,
        }
        facts = {"seed": cfg.seed, "step": run.state.step, "checkpoint": str(run.directory)}
        text = write_report(run.directory, comparisons, **facts, **minutes, **describe_code())
        shown = {FILE_ONLY: show_scores(run.directory, comparisons)}
        log.info("scores of step %d:\n%s", run.state.step, text, extra=shown)
        _show(run, minutes)


def _trivial(run: Run, cfg: DictConfig, validation: Validation) -> list[Row]:
    place = Place(
        Path(cfg.paths.runs) / "trivial",
        chosen_logger(cfg),
        run.state.step,
        run.settings.batch_size,
    )
    return trivial_comparison_rows(validation, beside(run.objective, cfg, run.device), place)


def _best_row(run: Run, validation: Validation) -> list[Row]:
    """The checkpoint that validation picked (with labels, so it is marked), if not the last."""
    best = run.state.best
    if best is None or best.step == run.state.step:
        return []
    content = checkpoint.read(run.directory / "checkpoints" / "best.pt")
    last = {k: v.clone() for k, v in run.objective.state_dict().items()}
    checkpoint.load_objective(run.objective, content, "best.pt")
    table = score(run.objective, validation, run.image_size, run.device)
    run.objective.load_state_dict(last)
    return [Row("this run", "best", table, best.step)]


def _show(run: Run, minutes: dict[str, float]) -> None:
    pictures: list[Path] = []
    for validation in run.validations[:1]:
        folder = run.directory / "media"
        pictures = write_pictures(folder, run.objective, validation, run.image_size, run.device)
        for path in pictures:
            run.logger.media(run.state.step, f"{path.stem}{path.suffix.replace('.', '_')}", path)
    directory = min(os.path.relpath(run.directory), str(run.directory), key=len)
    predict = f"./predict.py checkpoint={directory}"
    say(
        f"\n{run.state.step} steps in {minutes['wall_minutes']:.1f} minutes "
        f"({minutes['cpu_minutes']:.1f} CPU-minutes). Everything is in {directory}\n\n"
        "Next:\n"
        + (f"  look          open {directory}/media/{pictures[1].name}\n" if pictures else "")
        + (f"  your video    {predict} input=VIDEO.mp4 output=out\n" if pictures else "")
        + f"  train longer  ./train.py clone={directory} init_from={directory} "
        f"trainer.num_steps={4 * run.settings.num_steps}"
    )
