"""Validation during training: every rank scores a share of the videos, all know the result."""

from __future__ import annotations

import logging
from collections.abc import Callable

from slotreel.protocols.protocol import ScoreTable
from slotreel.protocols.symptoms import flat_health, symptoms
from slotreel.runtime.distributed import any_rank, gather_objects, share_object
from slotreel.training.run import Run

log = logging.getLogger(__name__)


def evaluate(run: Run, stop: Callable[[], bool]) -> dict[str, ScoreTable] | None:
    """Score all validation sets that have masks.

    Args:
        run: what to score and on what.
        stop: polled before each video.

    Returns:
        The tables by set name, the same on every rank, or None if ``stop`` cut any rank short.
    """
    tables: dict[str, ScoreTable] = {}
    for name, source, protocol, labelled, _ in run.validations:
        if not labelled:
            continue
        part = protocol.run(
            run.objective,
            source,
            set_name=name,
            image_size=run.image_size,
            device=run.device,
            stop=stop,
            rank=run.world.rank,
            world_size=run.world.size,
        )
        (abandoned,) = any_rank([part is None], run.device)
        if abandoned or part is None:
            return None
        parts = gather_objects(part)
        table = parts[0]
        for other in parts[1:]:
            table = table.merge(other)
        tables[name] = table
    return tables


def check_health(run: Run) -> dict[str, float]:
    """Slot health on the first videos of every set; warns of symptoms of the masks that are scored.

    Rank 0 looks, all ranks get its numbers. A symptom is told when it first appears, and again at
    the end of training.

    Returns:
        Values to log; they are also in ``run.state.health``.
    """
    found = {v.name: run.watch(run.objective, v) for v in run.validations if run.world.is_main}
    run.state.health = share_object(found)
    if run.state.step >= run.settings.num_steps:
        run.state.symptoms.clear()
    values: dict[str, float] = {}
    for name, _, protocol, *_ in run.validations:
        health = run.state.health[name]
        values |= flat_health(name, health)
        source = run.objective.mask_source(protocol.masks)
        for heading, text in symptoms(health.get(source, {})).items():
            if f"{name}: {heading}" not in run.state.symptoms and run.world.is_main:
                log.warning("%s, masks of the %s: %s", name, source, text)
            run.state.symptoms.add(f"{name}: {heading}")
    return values


def draw_clips(run: Run) -> None:
    """Mask videos of the same clips at every evaluation, by rank 0; a failure costs the video."""
    if not run.world.is_main:
        return
    for validation in run.validations:
        try:
            for name, path in run.draw(run.objective, validation, run.state.step).items():
                run.logger.media(run.state.step, name, path)
        except OSError as error:  # disk, encoder
            log.warning("%s: mask videos were not written (%s)", validation.name, error)
