"""What a run or an evaluation ends with: table, scores.json, pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from slotreel.data.image_io import write_image
from slotreel.files import write_json, write_text
from slotreel.interfaces import Objective
from slotreel.protocols.protocol import ScoreTable
from slotreel.protocols.segment import SegmentedFrame
from slotreel.protocols.symptoms import flat_health
from slotreel.runtime.logging import Sink
from slotreel.score_colour import print_scores
from slotreel.score_text import score_table_text, verdict
from slotreel.scores import Comparison, Published, Row, check_same, flat_scores, scores_json
from slotreel.training.run import Run, Validation
from slotreel.types import VideoInfo
from slotreel.visualize import mask_picture, mask_video

log = logging.getLogger(__name__)


def score(
    objective: Objective,
    validation: Validation,
    image_size: tuple[int, int],
    device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
    save: Callable[[VideoInfo, SegmentedFrame], None] | None = None,
) -> ScoreTable:
    """Scores of an objective on one set, by this process alone."""
    name, source, protocol, *_ = validation
    table = protocol.run(
        objective.to(device),
        source,
        set_name=name,
        image_size=image_size,
        device=device,
        progress=progress,
        save=save,
    )
    assert table is not None, "nothing asks to stop"
    return table


def published_rows(cfg: DictConfig) -> list[Published]:
    """Numbers of papers that a configuration carries, none if its protocols were changed.

    Single values of protocol, validation or propagation that were typed make another protocol of
    the same name.
    """
    papers = [Published(**paper) for paper in cfg.get("published") or []]
    typed = [o.lstrip("+~") for o in HydraConfig.get().overrides.task]
    if papers and any(o.startswith(("protocol.", "validate.", "propagation.")) for o in typed):
        log.warning("the protocol was changed on the command line: no published numbers beside")
        return []
    return papers


def log_scores(sink: Sink, comparisons: Sequence[Comparison], step: int) -> None:
    """Scores, skills and slot health of the last row, and a table with one line per video."""
    for comparison in comparisons:
        trivial = [row for row in comparison.rows if row.kind in ("trivial", "oracle")]
        row = comparison.rows[-1]
        values = flat_scores(row, [other for other in trivial if other is not row])
        values |= flat_health(row.table.set, comparison.health)
        sink.log(step, values)
        sink.summary(values)
        log_videos(sink, row, step)


def summarise(run: Run, row: Row, values: dict[str, float]) -> None:
    """``last/…`` or ``best/…`` with its step, in the table of runs; best was chosen with labels."""
    run.logger.summary({f"{row.kind}/{key}": value for key, value in values.items()})
    run.logger.summary({f"{row.kind}/step": row.step})
    best = run.state.best
    if row.kind == "last" and best is not None:
        run.logger.summary({"best/value": best.value, "best/step": best.step})
        if best.step == row.step:
            run.logger.summary({f"best/{key}": value for key, value in values.items()})


class TakesTables(Protocol):
    """A sink, or all sinks of a run."""

    def table(
        self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """See ``Sink``."""


def log_videos(sink: TakesTables, row: Row, step: int) -> None:
    """A table with one row per video: ``clip_id`` and the metrics of the protocol."""
    metrics = sorted(row.table.means())
    lines = []
    for video in sorted(row.table.rows):
        own = row.table.only(video).means()
        lines.append([video, *(own.get(metric) for metric in metrics)])
    name = f"eval/{row.table.set}/{row.table.protocol}"
    sink.table(step, name, ["clip_id", *metrics], lines)


def write_report(directory: Path, comparisons: Sequence[Comparison], **facts: Any) -> str:
    """Write scores.json and scores.md into ``directory``; returns the tables as text."""
    text = "\n\n".join([score_table_text(comparisons), *_verdicts(comparisons)])
    write_text(directory / "scores.md", text + "\n")
    write_json(directory / "scores.json", scores_json(comparisons, **facts))
    return text


def _verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """Whether the run beats the trivial rows, for each table; with several, which one is meant."""
    said = [(check_same(c.rows), verdict(c)) for c in comparisons]
    names = [f"{of.set} / {of.protocol}: " if len(said) > 1 else "" for of, _ in said]
    return [name + line for name, (_, line) in zip(names, said, strict=True) if line]


def show_scores(directory: Path, comparisons: Sequence[Comparison]) -> bool:
    """Print the tables in colour if there is a terminal, else nothing; returns which."""
    console = Console()
    if console.is_terminal:
        stored = min(os.path.relpath(directory), str(directory), key=len)
        print_scores(console, comparisons, f"{stored}/scores.md")
    return console.is_terminal


def write_pictures(
    directory: Path,
    objective: Objective,
    validation: Validation,
    image_size: tuple[int, int],
    device: torch.device,
    num_videos: int = 2,
) -> list[Path]:
    """Picture (.png) and short video (.mp4) of masks over the first videos of a set."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    name, source, protocol, *_ = validation
    for index in range(min(num_videos, len(source))):
        clip = protocol.clip(objective, source, index, image_size=image_size, device=device)
        if clip is None:
            break
        predictions = {"slots": clip.prediction}
        stem = directory / f"{name}_{index:02d}"
        write_image(stem.with_suffix(".png"), mask_picture(clip.video, clip.truth, predictions))
        mask_video(stem.with_suffix(".mp4"), clip.video, clip.truth, predictions)
        paths += [stem.with_suffix(".png"), stem.with_suffix(".mp4")]
    return paths
