"""Bring what a configuration reads from the network into this machine's caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from omegaconf import DictConfig

from slotreel.assemble import build_backbone
from slotreel.errors import UserError
from slotreel.importing.hub import PREFIX, cache, locate

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


class Fetched(NamedTuple):
    """One thing that a run reads from elsewhere."""

    what: str
    state: str  # fetched | there | failed
    where: str  # or why it failed


def fetch_all(cfg: DictConfig) -> Iterator[Fetched]:
    """Pretrained weights and published checkpoints that ``cfg`` names; nothing if it names none."""
    backbone = cfg.get("backbone") or {}
    if backbone.get("weights") == "hub":
        yield _weights(cfg)
    for key in ("init_from", "clone", "checkpoint"):
        name = str(cfg.get(key) or "")
        if name.startswith(PREFIX):
            yield _checkpoint(key, name)


def _weights(cfg: DictConfig) -> Fetched:
    what = f"backbone {cfg.backbone.model}"
    before = cached(cfg.backbone.model)

    def bring() -> str:
        build_backbone(cfg)
        return cached(cfg.backbone.model) or "timm's cache"

    return _tried(what, before is not None, bring)


def _checkpoint(key: str, name: str) -> Fetched:
    there = (cache() / "checkpoints" / name.removeprefix(PREFIX)).is_dir()
    return _tried(f"{key}={name}", there, lambda: str(locate(name)))


def _tried(what: str, there: bool, bring: Callable[[], str]) -> Fetched:
    try:
        where = bring()
    except Exception as error:  # Hydra wraps what a constructor raises
        cause = error if isinstance(error, UserError) else error.__cause__
        said = str(cause) if isinstance(cause, UserError) else f"{type(error).__name__}: {error}"
        return Fetched(what, "failed", said)
    return Fetched(what, "there" if there else "fetched", where)


def cached(model: str) -> str | None:
    """The file of timm's weights of that name in the Hugging Face cache, None if there is none."""
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    facts = get_pretrained_cfg(model)
    if facts is None or not facts.hf_hub_id:
        return None
    for file in TIMM_FILES:
        path = try_to_load_from_cache(facts.hf_hub_id, file)
        if isinstance(path, str):
            return path
    return None
