"""Train from stored features: what is compared before the first step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from slotreel.data.augment import Augmentation, augment_batch
from slotreel.errors import ConfigError, DataError
from slotreel.feature_cache.clips import CachedClips
from slotreel.feature_cache.encoding import encoder_of, relative_error, slot_model
from slotreel.feature_cache.facts import code, facts, refuse_differences
from slotreel.feature_cache.layout import name_of
from slotreel.feature_cache.recipe import Recipe
from slotreel.feature_cache.store import FeatureStore
from slotreel.fingerprint import weights_version
from slotreel.interfaces import Objective
from slotreel.types import Batch

log = logging.getLogger(__name__)
TOLERANCE = {"fp32": 1e-3, "bf16": 1e-2, "fp8": 6e-2}  # relative, of frames that are encoded anew


def cached_clips(cfg: DictConfig, objective: Objective, **arguments: Any) -> CachedClips:
    """Training clips with features of ``feature_cache``.

    Args:
        cfg: the configuration.
        objective: what is trained on them.
        arguments: of ``TrainingClips``, with transforms, and ``augment``.

    Raises:
        ConfigError: the features were made of something else.
        DataError: there are none, or some are missing.
    """
    folder = Path(cfg.feature_cache)
    store, model = FeatureStore(folder), slot_model(objective)
    crops = store.made_of["crops"]
    asked = facts(cfg, arguments["source"], crops)
    stored = {key: store.made_of[key] for key in asked}
    refuse_differences(stored, asked, folder, "this run")
    lacking = sorted(model.want - store.layout.fields.keys())
    if lacking:
        raise ConfigError(
            f"this run needs {', '.join(lacking)} beside tokens, and {folder} has only "
            f"{', '.join(store.layout.fields)}; write features with these losses: "
            "python scripts/cache_features.py --out ANOTHER_FOLDER OVERRIDES..."
        )
    missing = store.missing()
    if missing:
        raise DataError(
            f"{len(missing)} of {store.layout.num_shards} shards of {folder} are missing; type the "
            "command that wrote it again: it goes on"
        )
    recipe = Recipe(arguments.pop("transforms"), arguments.pop("augment"), crops)
    return CachedClips(
        store=store,
        recipe=recipe,
        batch_size=cfg.trainer.batch_size,
        want=model.want,
        pixels=objective.reads_pixels,
        **arguments,
    )


@torch.inference_mode()
def check_features(cfg: DictConfig, objective: Objective, device: torch.device) -> None:
    """Compare weights, then some frames encoded anew, with what is stored.

    For when the weights are loaded. The first frame of the first video and the last of the last
    are encoded: data, code or libraries that changed unseen show there.

    Raises:
        ConfigError: the features were made by other weights, or frames give others now.
    """
    if not cfg.get("feature_cache"):
        return
    store = FeatureStore(Path(cfg.feature_cache))
    encoder = encoder_of(cfg, objective, store.made_of["crops"], device)
    refuse_differences(
        {"weights": store.made_of["weights"], "dataset": {"augment": []}},
        {"weights": weights_version(encoder.backbone), "dataset": {"augment": []}},
        store.folder,
        "this run",
    )
    lengths = store.layout.num_frames
    worst = 0.0
    for video, frame in ((0, 0), (len(lengths) - 1, lengths[-1] - 1)):
        pixels = encoder.recipe.pixels(encoder.source, video, range(frame, frame + 1), 0)
        live = encoder(pixels, 0)
        stored = store.read(video, [frame])
        worst = max(worst, relative_error(stored, {k: live[name_of(0, k)] for k in stored}))
    dtype = store.layout.dtype
    if worst > TOLERANCE[dtype]:
        raise ConfigError(
            f"frames encoded now differ from those in {store.folder} by {worst:.2g} of their norm "
            f"({dtype}: at most {TOLERANCE[dtype]:g}): the data, the code or a library changed; "
            "write them anew: python scripts/cache_features.py --out ANOTHER_FOLDER OVERRIDES..."
        )
    other = "" if store.made_of["code"] == code() else ", though by other code or libraries"
    log.info(
        "features from %s (%s%s); two frames encoded anew differ by %.1e",
        store.folder, dtype, other, worst,
    )  # fmt: skip


def augment_seen(batch: Batch, steps: list[Augmentation], seed: int, step: int) -> Batch:
    """``augment_batch``, for batches whose features are those of changed frames already, too."""
    if batch.features is None:
        return augment_batch(batch, steps, seed, step)
    if not batch.views[0].numel():
        return batch
    changed = augment_batch(batch._replace(features=None), steps, seed, step)
    return changed._replace(features=batch.features)
