"""The table of contents of a run, an evaluation and a prediction."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from slotreel.build import (
    build_objective,
    build_run,
    build_validations,
    image_size_of,
    make,
    parts_table,
)
from slotreel.data.inputs import open_input
from slotreel.errors import ConfigError, DataError, UserError
from slotreel.files import replacing
from slotreel.inference.predict import predict_video
from slotreel.interfaces import Backbone, Objective
from slotreel.report import (
    score,
    trivial_comparison_rows,
    write_pictures,
    write_report,
)
from slotreel.resume import cloned, initialise_from, reconcile, restore, stored_config
from slotreel.runtime import provenance
from slotreel.runtime.distributed import (
    World,
    choose_device,
    close_distributed,
    init_distributed,
    share_object,
)
from slotreel.runtime.logging import Sink, setup_logging
from slotreel.scores import Comparison, Row, flat_scores
from slotreel.training import checkpoint
from slotreel.training.evaluate import evaluate
from slotreel.training.loop import fit
from slotreel.training.run import Run

log = logging.getLogger(__name__)
TRIVIAL_IMAGE_SIZE = 224  # what a trivial row sees of a user's video, pixels


Command = Callable[[DictConfig], int | None]


def _command(function: Command) -> Callable[[DictConfig], None]:
    """An entry point whose every failure is logged and leaves with a code of its own.

    Exceptions do not leave it, because Hydra's job runner would print its own line and submitit
    would report success.
    """

    @functools.wraps(function)
    def run(cfg: DictConfig) -> None:
        try:
            code = function(cfg)
        except UserError as error:
            log.error("%s", error)
            code = 1
        except Exception:
            log.error("%s", traceback.format_exc())
            code = 1
        if code:
            sys.exit(code)

    return run


# --- train -----------------------------------------------------------------------------------


@_command
def train(cfg: DictConfig) -> int:
    """Train, validate, report; the exit code is that of a signal that stopped it."""
    started = time.perf_counter()
    hydra = HydraConfig.get()
    world = init_distributed("cuda" if _wants_cuda(cfg) else "cpu")
    try:
        device = choose_device(cfg.trainer.device, world)
        directory = Path(share_object(str(Path(hydra.runtime.output_dir).resolve())))
        setup_logging(directory, world.rank)
        cfg, resuming = _settle(cfg, directory, list(hydra.overrides.task))
        run = build_run(cfg, world, device, directory, lambda: _sinks(cfg, directory, world, hydra))
        if world.is_main:
            _introduce(run, cfg)
        if resuming:
            restore(run)
        elif cfg.init_from:
            initialise_from(run, cfg.init_from)
        try:
            code = fit(run)
            if code == 0:
                _finish(run, cfg, started)
        finally:
            run.logger.close()
        return code
    finally:
        close_distributed()


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
            cfg = cloned(cfg, Path(cfg.clone), overrides)
        return cfg, False
    typed = overrides if cfg.resume else None
    return reconcile(cfg, stored, typed), True


def _sinks(cfg: DictConfig, directory: Path, world: World, hydra: Any) -> list[Sink]:
    if not world.is_main or "_target_" not in (cfg.get("logger") or {}):
        return []
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    facts = provenance.describe(dict(hydra.runtime.choices), list(hydra.overrides.task), plain)
    if (
        cfg.logger.get("group", "") is None
        and hydra.mode is not None
        and hydra.mode.name == "MULTIRUN"
    ):
        cfg = cfg.copy()
        cfg.logger.group = Path(hydra.sweep.dir).name
    return [make(cfg.logger)(run_dir=directory, config=plain | facts, name=directory.name)]


def _introduce(run: Run, cfg: DictConfig) -> None:
    """Store the configuration, point runs/latest here, print what is about to be trained."""
    with replacing(run.directory / "config.yaml") as temporary:
        temporary.write_text(run.config, encoding="utf-8")
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
    if run.world.is_main:
        comparisons = []
        for validation in run.validations:
            if not validation.labelled:
                continue
            table = tables[validation.name]
            rows = [Row("this run", "last", table, run.state.step), *_best_row(run, validation)]
            trivial = _trivial(cfg, run.objective, validation, run.image_size, run.device)
            values = flat_scores(rows[0], trivial)
            run.logger.log(run.state.step, values)
            run.logger.summary({f"last/{key}": value for key, value in values.items()})
            source = run.objective.mask_source(validation.protocol.masks)
            comparisons.append(Comparison([*trivial, *rows], cfg.num_slots, source))
        minutes = {
            "wall_minutes": (time.perf_counter() - started) / 60,
            "cpu_minutes": time.process_time() / 60,
        }
        facts = {"seed": cfg.seed, "step": run.state.step, "checkpoint": str(run.directory)}
        _show(run, write_report(run.directory, comparisons, **facts, **minutes), minutes)


def _best_row(run: Run, validation: Any) -> list[Row]:
    """The checkpoint that validation picked (with labels, so it is marked), if not the last."""
    best = run.state.best
    if best is None or best.step == run.state.step:
        return []
    content = checkpoint.read(run.directory / "checkpoints" / "best.pt")
    last = {k: v.clone() for k, v in run.objective.state_dict().items()}
    run.objective.load_state_dict(content["objective"])
    table = score(run.objective, validation, run.image_size, run.device)
    run.objective.load_state_dict(last)
    return [Row("this run", "best", table, best.step)]


def _trivial(
    cfg: DictConfig,
    objective: Objective,
    validation: Any,
    image_size: tuple[int, int],
    device: torch.device,
) -> list[Row]:
    if not cfg.trainer.trivial_rows:
        return []
    backbone = getattr(getattr(objective, "model", None), "backbone", None)
    return trivial_comparison_rows(
        validation,
        num_slots=cfg.num_slots,
        seed=cfg.seed,
        backbone=backbone if isinstance(backbone, Backbone) else None,
        image_size=image_size,
        device=device,
    )


def _show(run: Run, text: str, minutes: dict[str, float]) -> None:
    pictures: list[Path] = []
    for validation in run.validations[:1]:
        folder = run.directory / "media"
        pictures = write_pictures(folder, run.objective, validation, run.image_size, run.device)
        for path in pictures:
            run.logger.media(run.state.step, f"{path.stem}{path.suffix.replace('.', '_')}", path)
    directory = min(os.path.relpath(run.directory), str(run.directory), key=len)
    predict = f"./predict.py checkpoint={directory}"
    log.info("scores of step %d:\n%s", run.state.step, text)
    _say(
        f"\n{run.state.step} steps in {minutes['wall_minutes']:.1f} minutes "
        f"({minutes['cpu_minutes']:.1f} CPU-minutes). Everything is in {directory}\n\n"
        "Next:\n"
        + (f"  look          open {directory}/media/{pictures[1].name}\n" if pictures else "")
        + (f"  your video    {predict} input=VIDEO.mp4 output=out\n" if pictures else "")
        + f"  train longer  ./train.py init_from={directory} trainer.num_steps="
        f"{4 * run.settings.num_steps}"
    )


def _say(text: str) -> None:
    """Print for the user, as it is."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


# --- eval and predict ------------------------------------------------------------------------


@_command
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
        rows[:0] = _trivial(trained, objective, validation, size, device)
        source = objective.mask_source(validation.protocol.masks)
        comparisons.append(Comparison(rows, trained.num_slots, source))
    output = Path(cfg.output or where["directory"] / "eval" / _name(validations))
    text = write_report(output, comparisons, checkpoint=str(cfg.checkpoint), step=where["step"])
    Console().print(
        text + f"\n\nwritten to {output}", markup=False, highlight=False, soft_wrap=True
    )


@_command
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
    path = checkpoint.locate(cfg.checkpoint)
    content = checkpoint.read(path)
    stored = OmegaConf.create(content["config"])
    assert isinstance(stored, DictConfig)
    stored.trainer.trivial_rows = cfg.get("trivial_rows", False)
    objective = build_objective(stored)
    checkpoint.load_weights(objective, content["objective"], str(path))
    return objective, stored, {"step": content["step"], "directory": path.parent.parent}


def _name(validations: list[Any]) -> str:
    return "+".join(f"{v.name}-{v.protocol.name}" for v in validations)
