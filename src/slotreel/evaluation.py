"""The eval command: a model, or label maps on disk, under named protocols."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import build_backbone, image_size_of
from slotreel.build import build_validations
from slotreel.command import command, say
from slotreel.errors import CheckpointError, ConfigError, DataError
from slotreel.features_only import FeaturesOnly
from slotreel.health import watch_slots
from slotreel.interfaces import Backbone
from slotreel.loading import Subject, load_subject
from slotreel.loggers import chosen_logger, open_sinks, stored_facts
from slotreel.noise import seed_of
from slotreel.protocols.segment import SegmentedFrame
from slotreel.protocols.symptoms import symptoms
from slotreel.report import log_scores, published_rows, score, show_scores, write_report
from slotreel.results.davis_csv import davis_columns, has_davis_columns, write_davis_csv
from slotreel.results.stored import StoredMasks, save_labels
from slotreel.runtime.distributed import World, choose_device
from slotreel.runtime.logging import setup_logging
from slotreel.runtime.progress import counting
from slotreel.scores import Comparison, Row
from slotreel.training.run import Validation
from slotreel.trivial_log import Place
from slotreel.trivial_runs import Beside, beside, stored_row, trivial_comparison_rows
from slotreel.types import VideoInfo

log = logging.getLogger(__name__)


@command
def eval(cfg: DictConfig) -> None:
    """Score under named protocols; write scores.json, a table, official CSV files, label maps."""
    setup_logging(None, 0)
    device = choose_device(cfg.device, World())
    subject = load_subject(cfg)
    validations = build_validations(cfg) or build_validations(subject.config, cfg)
    if not validations:
        raise ConfigError("nothing to score on; type validate=moving_shapes (or dataset=…)")
    output = Path(cfg.output or subject.directory / "eval" / _name(validations))
    comparisons = [_compare(cfg, subject, v, output, device) for v in validations]
    facts = {"checkpoint": str(cfg.checkpoint), "results": str(cfg.results), "step": subject.step}
    text = write_report(output, comparisons, **facts)
    if not show_scores(output, comparisons):
        say(f"{text}\n")
    for validation, comparison in zip(validations, comparisons, strict=True):
        _write_official(output, comparison, validation.protocol.data.get("split", "val"))
    for sink in open_sinks(cfg, output, "eval", stored_facts(subject.directory)):
        log_scores(sink, comparisons, subject.step or 0)
        sink.close()
    say(f"written to {output}")


def _compare(
    cfg: DictConfig,
    subject: Subject,
    validation: Validation,
    output: Path,
    device: torch.device,
) -> Comparison:
    """The subject's row under one protocol, beside the rows without training."""
    if not validation.labelled:
        raise DataError(f"validate.{validation.name} has no masks: there is nothing to score")
    protocol = validation.protocol
    objective = subject.objective
    if isinstance(objective, StoredMasks):
        objective.ends_may_lack = not protocol.ends_are_scored()
    size = image_size_of(subject.config)
    with counting(validation.name, "videos") as progress:
        save = _saver(output / "masks" / validation.name) if cfg.save_masks else None
        table = score(objective, validation, size, device, progress, save)
    rows = [Row(subject.label, subject.kind, table, subject.step)]
    num_slots = subject.config.num_slots
    if cfg.trivial_rows:
        setting, place = beside(objective, subject.config, device), _place(cfg, subject)
        rows[:0] = _untuned_row(cfg.before_training, subject, validation, setting, place)
        rows[:0] = trivial_comparison_rows(validation, setting, place, without=subject.label)
    masks = protocol.scored(objective).mask_source(protocol.masks)
    slots = None if protocol.through else num_slots
    health = watch_slots(
        objective, validation, image_size=size, device=device, num_videos=cfg.health_videos
    )
    if subject.kind == "model":  # rows without training are what they are
        for text in symptoms(health.get(masks, {})).values():
            log.warning("%s, masks of the %s: %s", validation.name, masks, text)
    papers, data = published_rows(subject.config), (validation.settings or {}).get("data")
    return Comparison(rows, slots, masks, papers, health=health, data=data)


def _place(cfg: DictConfig, subject: Subject) -> Place:
    batch = OmegaConf.select(subject.config, "trainer.batch_size") or 0
    directory = Path(cfg.paths.runs) / "trivial"
    return Place(directory, chosen_logger(cfg), subject.step or 0, batch)


def _untuned_row(
    weights: str | None, subject: Subject, validation: Validation, setting: Beside, place: Place
) -> list[Row]:
    """Where a tuned backbone spreads labels: the same backbone as it was before training.

    Args:
        weights: those it started from, or None for what the run says.
        subject: the model that is scored.
        validation: the set.
        setting: of rows beside it.
        place: where rows are stored.
    """
    backbone = getattr(getattr(subject.objective, "model", None), "backbone", None)
    tuned = isinstance(backbone, Backbone) and not backbone.frozen
    if not (tuned and validation.protocol.through):
        return []
    config = subject.config.copy()
    if weights is not None:
        config.backbone.weights = weights
    torch.manual_seed(seed_of(config.seed, "parameters"))  # random ones start as they did
    try:
        before = FeaturesOnly(backbone=build_backbone(config))
    except CheckpointError as error:
        log.warning(
            "no row of the backbone before training: %s. Here that is before_training=FILE", error
        )
        return []
    return [stored_row("before_training", before, validation, setting, place)]


def _saver(folder: Path) -> Callable[[VideoInfo, SegmentedFrame], None]:
    """Writes label maps in the layout and palette of DAVIS."""

    def save(video: VideoInfo, frame: SegmentedFrame) -> None:
        if frame.labels is not None:
            save_labels(folder, video, frame.frame, frame.labels)

    return save


def _write_official(output: Path, comparison: Comparison, split: str) -> None:
    """DAVIS columns and files of the subject's row, where they were measured."""
    table = comparison.rows[-1].table
    if not has_davis_columns(table):
        return
    columns = davis_columns(table)
    say("  ".join(f"{name:>9}" for name, _ in columns))
    say("  ".join(f"{value:>{max(9, len(name))}}" for name, value in columns))
    folder = output / "official" / _of_set(table.set, table.protocol)
    for path in write_davis_csv(folder, table, split):
        say(f"written {path}")


def _name(validations: list[Validation]) -> str:
    return "+".join(_of_set(v.name, v.protocol.name) for v in validations)


def _of_set(name: str, protocol: str) -> str:
    return name if name == protocol else f"{name}-{protocol}"
