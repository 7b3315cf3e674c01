"""The end of a run: its scores beside what trivial methods get, pictures, what to type next."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from slotreel.command import say
from slotreel.cost import spent
from slotreel.loggers import chosen_logger
from slotreel.protocols.symptoms import flat_health
from slotreel.report import (
    log_videos,
    published_rows,
    score,
    show_scores,
    summarise,
    write_pictures,
    write_report,
)
from slotreel.runtime.logging import FILE_ONLY
from slotreel.runtime.provenance import describe_code
from slotreel.scores import Comparison, Row, flat_scores
from slotreel.training import checkpoint
from slotreel.training.evaluate import check_health, evaluate
from slotreel.training.run import Run, Validation
from slotreel.trivial_log import Place
from slotreel.trivial_runs import beside, trivial_comparison_rows

log = logging.getLogger(__name__)


def finish(run: Run, cfg: DictConfig, started: float) -> None:
    """Final scores beside trivial rows, pictures, and what to type next.

    Args:
        run: trained to its last step.
        cfg: its configuration.
        started: ``time.perf_counter()`` when the process began.
    """
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
            run.logger.log(run.state.step, values | run.axes())
            for row in rows:
                summarise(run, row, values if row.kind == "last" else flat_scores(row, trivial))
            log_videos(run.logger, rows[0], run.state.step)
            source = run.objective.mask_source(validation.protocol.masks)
            papers, every = published_rows(cfg), [*trivial, *rows]
            data = (validation.settings or {}).get("data")
            comparisons.append(
                Comparison(every, cfg.num_slots, source, papers, health=health, data=data)
            )
        run.logger.artifact(checkpoint.checkpoint_path(run.directory, run.state.step))
        cost = spent(run.objective, run.device, started)
        facts = {"seed": cfg.seed, "step": run.state.step, "checkpoint": str(run.directory)}
        text = write_report(run.directory, comparisons, **facts, **cost, **describe_code())
        shown = {FILE_ONLY: show_scores(run.directory, comparisons)}
        log.info("scores of step %d:\n%s", run.state.step, text, extra=shown)
        _show(run, cost)


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


def _show(run: Run, cost: dict[str, Any]) -> None:
    pictures: list[Path] = []
    for validation in run.validations[:1]:
        folder = run.directory / "media"
        pictures = write_pictures(folder, run.objective, validation, run.image_size, run.device)
        for path in pictures:
            if path.suffix == ".png":  # the clips are logged as videos already
                run.logger.media(
                    run.state.step, f"{validation.name}/picture_{path.stem[-2:]}", path
                )
    directory = min(os.path.relpath(run.directory), str(run.directory), key=len)
    predict = f"./predict.py checkpoint={directory}"
    say(
        f"\n{run.state.step} steps in {cost['wall_minutes']:.1f} minutes "
        f"({cost['cpu_minutes']:.1f} CPU-minutes). Everything is in {directory}\n\n"
        "Next:\n"
        + (f"  look          open {directory}/media/{pictures[1].name}\n" if pictures else "")
        + (f"  your video    {predict} input=VIDEO.mp4 output=out\n" if pictures else "")
        + f"  score again   ./eval.py checkpoint={directory}\n"
        f"  train longer  ./train.py clone={directory} init_from={directory} "
        f"trainer.num_steps={4 * run.settings.num_steps}"
    )
