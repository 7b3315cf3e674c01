"""Validation during training: every rank scores a share of the videos, all know the result."""

from __future__ import annotations

from collections.abc import Callable

from slotreel.protocols.protocol import ScoreTable
from slotreel.runtime.distributed import any_rank, gather_objects
from slotreel.training.run import Run


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
