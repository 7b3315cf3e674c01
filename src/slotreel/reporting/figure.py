"""Masks of several methods on the same frames: one row per method, one colour per object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from slotreel.assemble import image_size_of
from slotreel.build import build_validations
from slotreel.data.image_io import write_image
from slotreel.errors import ConfigError, nearest
from slotreel.files import replacing
from slotreel.loading import load_checkpoint
from slotreel.protocols.protocol import LabelledClip
from slotreel.reporting.comparing import Comparison
from slotreel.reporting.records import Column
from slotreel.reporting.variants import Variant
from slotreel.scores import COLUMNS, LESS_IS_BETTER
from slotreel.visualize import caption_font, mask_picture

SCALE = 2  # twice the size of pictures on a screen
MARGIN_PX = 6
PDF_DPI = 200


class Choice(NamedTuple):
    """A clip and why it is shown."""

    clip: str
    caption: str


def score_of_clips(comparison: Comparison, metric: str) -> dict[str, float]:
    """Score of each video: mean over the seeds of a variant, then over variants."""
    sums: dict[str, list[float]] = {}
    column = comparison.column
    for line in comparison.lines:
        if line.variant is None:
            continue
        tables = [
            r.results[column].own().table for r in line.variant.finished if column in r.results
        ]
        for video in tables[0].rows:
            own = [table.only(video).means().get(metric) for table in tables]
            known = [value for value in own if value is not None]
            if known:
                sums.setdefault(video, []).append(sum(known) / len(known))
    return {video: sum(values) / len(values) for video, values in sums.items()}


def choose(comparison: Comparison, metric: str, clips: Sequence[str]) -> list[Choice]:
    """The clips that were named, else the best, the median and the worst.

    Args:
        comparison: of the set and protocol that are shown.
        metric: that decides.
        clips: ids; empty to choose by score.

    Raises:
        ConfigError: a metric that was not measured, or an unknown clip.
    """
    if metric not in comparison.metrics:
        raise ConfigError(
            f"--metric {metric} was not measured; {nearest(metric, comparison.metrics)}"
        )
    scores = score_of_clips(comparison, metric)
    name = COLUMNS.get(metric, metric)

    def caption(clip: str, why: str = "") -> str:
        score = f"{name} {100 * scores[clip]:.1f}" if clip in scores else f"no {name}"
        return f"{clip} ({why}{score}, mean of the methods)"

    videos = _videos(comparison)
    for clip in clips:
        if clip not in videos:
            raise ConfigError(f"--clips {clip}: no such video; {nearest(clip, videos)}")
    if clips:
        return [Choice(clip, caption(clip)) for clip in clips]
    order = sorted(scores, key=lambda clip: (scores[clip], clip), reverse=metric in LESS_IS_BETTER)
    wanted = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    chosen: dict[str, str] = {}
    for why, clip in wanted.items():
        chosen.setdefault(clip, why)
    return [Choice(clip, caption(clip, f"{why}: ")) for clip, why in chosen.items()]


def _videos(comparison: Comparison) -> list[str]:
    line = next(line for line in comparison.lines if line.variant)
    assert line.variant is not None
    record = next(r for r in line.variant.finished if comparison.column in r.results)
    return sorted(record.results[comparison.column].own().table.rows)


def segment_clips(
    variant: Variant, column: Column, clips: Sequence[str], device: torch.device
) -> dict[str, LabelledClip]:
    """What the first seed of a variant says of some videos, by id.

    Raises:
        ConfigError: the run was scored on this set by ``eval`` only; CheckpointError: it has no
            checkpoint that can be read.
    """
    record = next(r for r in variant.finished if column in r.results)
    loaded = load_checkpoint(record.directory)
    validations = build_validations(loaded.config)
    fitting = [v for v in validations if (v.name, v.protocol.name) == (column.set, column.protocol)]
    if not fitting:
        own = ", ".join(v.name for v in validations)
        raise ConfigError(
            f"{record.directory} does not validate on {column.title()} while it trains; choose one "
            f"of its own: --set {own}"
        )
    _, source, protocol, *_ = fitting[0]
    size, objective = image_size_of(loaded.config), loaded.objective.to(device)
    places = {source.info(index).id: index for index in range(len(source))}
    segmented: dict[str, LabelledClip] = {}
    for clip in clips:
        found = protocol.clip(objective, source, places[clip], image_size=size, device=device)
        if found is None:
            raise ConfigError(f"{column.title()} scores points, and a figure shows masks: --set")
        segmented[clip] = found
    return segmented


def compose(
    choices: Sequence[Choice],
    segmented: Mapping[str, Mapping[str, LabelledClip]],
    frames: Sequence[int],
    columns: int,
) -> Image.Image:
    """The figure: for each clip its caption and rows of video, truth and methods.

    Args:
        choices: clips in their order.
        segmented: by method, by clip; colours follow the truth, without truth the first method.
        frames: numbers to show; empty: ``columns`` of them, spread evenly.
        columns: how many where none are named.

    Raises:
        ConfigError: a frame that a clip has not.
    """
    pictures = []
    for clip, _ in choices:
        predictions = {method: clips[clip].prediction for method, clips in segmented.items()}
        first = next(iter(segmented.values()))[clip]
        beyond = [n for n in frames if not 0 <= n < len(first.video)]
        if beyond:
            raise ConfigError(
                f"--frames {beyond[0]}: {clip} has frames 0 to {len(first.video) - 1}"
            )
        picture = mask_picture(
            first.video, first.truth, predictions,
            max_columns=columns, frames=frames or None, scale=SCALE,
        )  # fmt: skip
        pictures.append(Image.fromarray(picture))
    font = caption_font(SCALE)
    head = 18 * SCALE
    widths = [picture.width for picture in pictures]
    widths += [round(font.getlength(choice.caption)) for choice in choices]
    height = sum(picture.height + head + MARGIN_PX for picture in pictures)
    canvas = Image.new("RGB", (max(widths) + 2 * MARGIN_PX, height), "white")
    draw, top = ImageDraw.Draw(canvas), 0
    for choice, rows in zip(choices, pictures, strict=True):
        draw.text((MARGIN_PX, top + head // 2), choice.caption, "black", font, anchor="lm")
        canvas.paste(rows, (MARGIN_PX, top + head))
        top += rows.height + head + MARGIN_PX
    return canvas


def save(picture: Image.Image, stem: Path) -> list[Path]:
    """As ``stem.png`` and ``stem.pdf`` (pixels at ``PDF_DPI`` per inch)."""
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    png.parent.mkdir(parents=True, exist_ok=True)
    write_image(png, np.asarray(picture))
    with replacing(pdf) as temporary:
        picture.save(temporary, "PDF", resolution=PDF_DPI)
    return [png, pdf]
