"""Rows without training as runs: scored once, kept on disk, each logged as a run of its own."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import image_size_of
from slotreel.backbones.patches import PatchPixels
from slotreel.baselines.rows import conditional_rows, trivial_rows
from slotreel.baselines.trivial import TRIVIAL_ROWS
from slotreel.features_only import FeaturesOnly
from slotreel.fingerprint import (
    CODE,
    files_version,
    library_versions,
    outside_code,
    weights_version,
)
from slotreel.interfaces import Backbone, Objective
from slotreel.protocols.score_table import ScoreTable
from slotreel.report import score
from slotreel.scores import Comparison, Row, scores_json
from slotreel.training.run import Validation
from slotreel.trivial_log import Place, folder_name, log_row
from slotreel.trivial_store import claimed, read, row_of, write

log = logging.getLogger(__name__)
LABELS = {
    **TRIVIAL_ROWS,
    "colours": "labels spread by colours",
    "before_training": "its backbone before training",
}
OF_THE_BACKBONE = ("feature_kmeans", "before_training")  # rows that use the model's own


class Beside(NamedTuple):
    """What trivial rows stand beside, as far as it decides their numbers."""

    objective: Objective  # k-means on features uses its backbone, if it has one
    num_slots: int
    seed: int
    image_size: tuple[int, int]  # what the rows see, as the model does
    device: torch.device  # where features are computed
    backbone: Mapping[str, Any] | None  # settings of the backbone


def beside(objective: Objective, cfg: DictConfig, device: torch.device) -> Beside:
    """What a configuration says of its model.

    Args:
        objective: the model ``cfg`` describes.
        cfg: of the run or the checkpoint.
        device: where features are computed.
    """
    backbone: Any = OmegaConf.to_container(cfg.get("backbone") or OmegaConf.create(), resolve=True)
    return Beside(objective, cfg.num_slots, cfg.seed, image_size_of(cfg), device, backbone or None)


def trivial_comparison_rows(
    validation: Validation, setting: Beside, place: Place, without: str = ""
) -> list[Row]:
    """All trivial rows under the validation's protocol, the winners among them too.

    Args:
        validation: what to score on.
        setting: the model they stand beside.
        place: where they are kept.
        without: label of a row that is left out.
    """
    objectives = _untrained(validation, setting)
    return [
        stored_row(name, objective, validation, setting, place)
        for name, objective in objectives.items()
        if LABELS[name] != without
    ]


def _untrained(validation: Validation, setting: Beside) -> dict[str, Objective]:
    """Rows without training that make sense under a protocol, by ``model=`` name."""
    if validation.protocol.through is not None:
        colours = FeaturesOnly(backbone=PatchPixels(patch_size=16, samples=4))
        return conditional_rows(setting.num_slots, setting.seed) | {"colours": colours}
    model = getattr(setting.objective, "model", setting.objective)
    backbone = getattr(model, "backbone", None)
    own = backbone if isinstance(backbone, Backbone) else None
    return trivial_rows(setting.num_slots, setting.seed, own)


def stored_row(
    name: str, objective: Objective, validation: Validation, setting: Beside, place: Place
) -> Row:
    """One row: read if it was scored before, else scored and kept; logged where it was not yet."""
    kind = "oracle" if objective.oracle else "trivial"
    if validation.settings is None:  # nothing tells two of them apart
        return Row(LABELS[name], kind, _score(name, objective, validation, setting))
    settings = _plain(_settings(name, objective, validation, setting))
    folder = place.directory / folder_name(settings)
    with claimed(folder) as mine:
        made_by = _made_by(settings, place)
        content = read(folder, settings, made_by)
        if content is None:
            table = _score(name, objective, validation, setting)
            masks = validation.protocol.scored(objective).mask_source(validation.protocol.masks)
            comparison = Comparison([Row(LABELS[name], kind, table)], setting.num_slots, masks)
            content = scores_json([comparison], settings=settings, made_by=made_by, logged={})
            mine = mine and made_by == _made_by(settings, place)  # no file changed meanwhile
            if mine:
                shutil.rmtree(folder / "logger", ignore_errors=True)  # of other numbers
                write(folder, content)
        row = row_of(content)
        if mine:
            log_row(folder, content, row, place)
    return row


def _score(name: str, objective: Objective, validation: Validation, setting: Beside) -> ScoreTable:
    started = time.perf_counter()
    table = score(objective, validation, setting.image_size, setting.device)
    seconds = time.perf_counter() - started
    log.info("%s: row %s scored in %.1f s", validation.name, name, seconds)
    return table


# --- what decides the numbers ----------------------------------------------------------------


def _settings(
    name: str, objective: Objective, validation: Validation, setting: Beside
) -> dict[str, Any]:
    """What was asked for: names the folder."""
    own = setting.backbone if name in OF_THE_BACKBONE else None
    return {
        "row": name,
        "class": f"{type(objective).__module__}.{type(objective).__qualname__}",
        "set": validation.name,
        "protocol": validation.protocol.name,
        "description": validation.protocol.describe(setting.image_size),
        "of": validation.settings,
        "num_slots": setting.num_slots,
        "seed": setting.seed,
        "image_size": setting.image_size,
        "device": setting.device.type,
        "precision": torch.get_float32_matmul_precision(),
        "backbone": own,
        "weights": weights_version(objective),
    }


def _made_by(settings: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """What the answer was made with, beside what was asked for."""
    asked = [settings["of"], settings["backbone"]]
    return {
        "code": CODE,
        "outside code": outside_code(asked),
        "libraries": library_versions(),
        "files of the data": files_version(asked, ignore=place.directory),
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain
