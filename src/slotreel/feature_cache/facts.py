"""What stored features depend on, and which of it differs from what a run asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slotreel.errors import ConfigError
from slotreel.fingerprint import code_version, digest, library_versions
from slotreel.interfaces import VideoSource

PATHS = ("root", "path")  # arguments of sources that say where files are: these may move
CODE = code_version(folders=("backbones", "data", "layers"))
_FLIP = "slotreel.data.augment.HorizontalFlip"
NO_MATTER = ("weights", "frames_per_call")  # a hash stands for the weights; numbers are the same


def facts(cfg: DictConfig, source: VideoSource, crops: int) -> dict[str, Any]:
    """All but the weights, as JSON holds it.

    Args:
        cfg: a resolved configuration of ``train``.
        source: its training videos.
        crops: stored draws of random transforms.
    """
    data, backbone = _plain(cfg.dataset), _plain(cfg.backbone)
    infos = [source.info(i) for i in range(len(source))]
    size = cfg.image_size
    return {
        "image_size": size if isinstance(size, int) else list(size),
        "crops": crops,
        "dataset": {
            "source": {k: v for k, v in data["source"].items() if k not in PATHS},
            "transform": data["transform"],
            "augment": [{k: v for k, v in step.items() if k != "p"} if _flips(step) else step
                        for step in data["augment"]],
        },
        "videos": digest([[info.id, info.num_frames, list(info.size)] for info in infos]),
        "backbone": {k: v for k, v in backbone.items() if k not in NO_MATTER},
    }  # fmt: skip


def code() -> dict[str, str]:
    """Version of what turns frames into features."""
    return {"slotreel": CODE, **{k: v for k, v in library_versions().items() if k != "scipy"}}


def refuse_differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], folder: Path, doing: str
) -> None:
    """Stop if features were made of something else.

    Args:
        stored: ``facts`` of the cache.
        asked: those of the run.
        folder: of the cache.
        doing: who asks, for the message.

    Raises:
        ConfigError: names every key that differs, both values and what to type.
    """
    stored, asked = dict(stored), dict(asked)
    steps = asked["dataset"]["augment"]
    if not any(map(_flips, steps)):  # features of mirrored frames may lie unused
        kept = [step for step in stored["dataset"]["augment"] if not _flips(step)]
        stored["dataset"] = {**stored["dataset"], "augment": kept}
    old, new = _flat(stored), _flat(asked)
    differ = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not differ:
        return
    lines = [f"  {key}: {old.get(key, '(absent)')} there, {new.get(key, '(absent)')} here"
             for key in differ]  # fmt: skip
    typed = [f"{key}={old[key]}" for key in differ if _typeable(key, old)]
    like = f"to train as it was written, type {' '.join(typed)}; " if typed else ""
    raise ConfigError(
        f"the features in {folder} were made of something else than {doing}:\n"
        + "\n".join(lines)
        + f"\n{like}to have features for this, write others: python scripts/cache_features.py "
        "--out ANOTHER_FOLDER OVERRIDES...; or train without backbone=precomputed"
    )


def _typeable(key: str, old: Mapping[str, Any]) -> bool:
    groups = ("image_size", "dataset.source.", "backbone.")
    return key.startswith(groups) and key in old and not key.endswith("_target_")


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def _flips(step: Mapping[str, Any]) -> bool:
    return step.get("_target_") == _FLIP


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; lists are leaves."""
    if not isinstance(node, Mapping) or not node:
        return {prefix: node}
    return {
        name: value
        for key, child in node.items()
        for name, value in _flat(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }
