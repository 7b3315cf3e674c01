"""Small run directories by the writers of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from slotreel.data.image_io import write_image
from slotreel.files import write_json, write_text
from slotreel.protocols.score_table import ScoreTable, VideoFacts
from slotreel.reporting.finding import find_runs
from slotreel.reporting.records import Record, read_record
from slotreel.runtime.logging import RunLogger
from slotreel.scores import Comparison, Row, scores_json

PREFIX = "val/shapes/discovery"


def config(seed: int = 0, **changed: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "a-shapes", "seed": seed, "num_slots": 6, "image_size": 64,
        "backbone": {"_target_": "slotreel.backbones.patches.PatchPixels"},
        "grouper": {"_target_": "slotreel.groupers.slot_attention.SlotAttention", "num_iters": 1},
        "dataset": {"source": {"root": "/here/shapes"}},
        "trainer": {"num_steps": 20, "batch_size": 4},
        "paths": {"runs": f"runs{seed}", "data": "/here"},
    }  # fmt: skip
    return content | changed


def table(scores: list[float], protocol: str = "discovery") -> ScoreTable:
    rows = {f"v{i}": {"fg_ari_video": (x, 1.0)} for i, x in enumerate(scores)}
    facts = {video: VideoFacts(12, 3) for video in rows}
    return ScoreTable("shapes", protocol, f"{protocol}: all frames", rows, facts)


def write_run(
    directory: Path,
    cfg: dict[str, Any],
    scores: list[float] | None = None,
    *,
    protocols: tuple[str, ...] = ("discovery",),
    data: dict[str, Any] | None = None,
    steps: tuple[int, ...] = (10, 20),
) -> Path:
    """A run directory by the writers of real ones; without scores one that did not finish."""
    write_text(directory / "config.yaml", yaml.safe_dump(cfg))
    logger = RunLogger(directory, [], enabled=True, num_steps=20)
    for step in steps:
        values = {"train/loss": 1 / step, "perf/step_ms": 360.0, "perf/clips_s": float(step)}
        logger.log(step, values | {f"{PREFIX}/fg_ari_video": step / 100 + cfg["seed"]})
    logger.close()
    (directory / "media").mkdir()
    write_image(directory / "media" / "shapes_00.png", np.zeros((8, 12, 3), dtype=np.uint8))
    if scores is None:
        return directory
    health = {"grouper": {"num_slots": 6.0, "effective_slots": 3.25, "place_bias": 0.9}}
    comparisons = []
    for protocol in protocols:
        blocks = table([0.3] * len(scores), protocol)
        rows = [
            Row("sees the truth", "oracle", table([1.0] * len(scores), protocol)),
            Row("fixed blocks", "trivial", blocks),
            Row("this run", "last", table(scores, protocol), 20),
            Row("this run", "best", table([0.99] * len(scores), protocol), 10),
        ]
        comparisons.append(Comparison(rows, 6, "grouper", health=health, data=data))
    facts = {"seed": cfg["seed"], "step": 20, "wall_minutes": 2.0, "trainable_parameters": 1234}
    write_json(directory / "scores.json", scores_json(comparisons, **facts))
    return directory


def smtc(seed: int = 0) -> dict[str, Any]:
    return config(seed, grouper={"_target_": "slotreel.groupers.smtc.SMTC", "num_instances": 2})


def records(*places: Path) -> list[Record]:
    return [read_record(path) for path in find_runs(places)]
