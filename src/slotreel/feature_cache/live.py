"""``backbone=precomputed`` put into words: the backbone that made the features, and their folder.

Everything after this sees a usual backbone, so that a run's configuration and checkpoints name the
network itself, and evaluation and prediction run it on video.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slotreel.errors import ConfigError
from slotreel.feature_cache.facts import NO_MATTER
from slotreel.feature_cache.store import FeatureStore


def with_live_backbone(cfg: DictConfig) -> DictConfig:
    """The configuration with ``backbone=precomputed`` replaced; others as they are.

    Raises:
        ConfigError: no folder is given, or an argument differs from the stored features'.
        DataError: the folder holds no features.
    """
    given = cfg.get("backbone")
    if not given or not given.get("precomputed"):
        return cfg
    if not given.get("path"):
        raise ConfigError(
            "backbone=precomputed needs the folder of the features; type backbone.path=FOLDER, "
            "after python scripts/cache_features.py --out FOLDER OVERRIDES..."
        )
    folder = Path(given.path).expanduser().resolve()
    stored = FeatureStore(folder).backbone
    asked: Any = OmegaConf.to_container(given, resolve=True)
    for key in asked.keys() - {"precomputed", "path"}:
        if key in NO_MATTER:
            stored[key] = asked[key]
        elif asked[key] != stored.get(key):
            raise ConfigError(
                f"backbone.{key}={asked[key]}, but the features in {folder} were made with "
                f"{stored.get(key, 'no such argument')}; drop it, or write others: "
                "python scripts/cache_features.py --out ANOTHER_FOLDER OVERRIDES..."
            )
    live = cfg.copy()
    OmegaConf.set_struct(live, False)
    live.backbone = stored
    live.feature_cache = str(folder)
    OmegaConf.set_struct(live, True)
    return live
