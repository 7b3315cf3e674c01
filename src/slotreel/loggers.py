"""The logger that was chosen, with facts for comparing runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import make
from slotreel.files import write_json
from slotreel.runtime import provenance
from slotreel.runtime.logging import Sink

FACTS = "facts.json"  # in a run directory: choices, variant, code, libraries


def chosen_logger(cfg: DictConfig) -> DictConfig | None:
    """``cfg.logger`` with the sweep as its group; None for ``logger=none``."""
    logger: DictConfig = cfg.get("logger") or OmegaConf.create()
    if "_target_" not in logger:
        return None
    if cfg.get("sweep_name") and logger.get("group", "") is None:
        logger = logger.copy()
        logger.group = cfg.sweep_name
    return logger


def stored_facts(directory: Path | None) -> dict[str, Any] | None:
    """What ``remember_facts`` wrote, None where there is no such file."""
    path = None if directory is None else directory / FACTS
    return json.loads(path.read_text()) if path is not None and path.is_file() else None


def remember_facts(cfg: DictConfig, directory: Path, before: dict[str, Any] | None) -> None:
    """Write facts.json.

    Args:
        cfg: the configuration that counts.
        directory: of the run.
        before: facts of the run that goes on here or is cloned: it stays what it was chosen to be.
    """
    hydra, plain = HydraConfig.get(), _plain(cfg)
    choices, typed = dict(hydra.runtime.choices), list(hydra.overrides.task)
    facts = provenance.describe(choices, typed, plain, before)
    logger = chosen_logger(cfg)
    facts["group"] = (before or {}).get("group") if logger is None else logger.get("group")
    write_json(directory / FACTS, facts)


def open_sinks(
    cfg: DictConfig, directory: Path, job_type: str = "train", facts: dict[str, Any] | None = None
) -> list[Sink]:
    """Wandb or whatever ``logger=`` names, for this command as a run of its own.

    Args:
        cfg: configuration of the command.
        directory: where the logger may write.
        job_type: train or eval.
        facts: of the run that is trained or scored; None describes this command.
    """
    logger = chosen_logger(cfg)
    if logger is None:
        return []
    hydra, plain = HydraConfig.get(), _plain(cfg)
    choices, typed = dict(hydra.runtime.choices), list(hydra.overrides.task)
    facts = facts or provenance.describe(choices, typed, plain)
    if "tags" in logger:
        logger = OmegaConf.merge(logger, {"tags": tags(list(logger.tags), facts)})  # type: ignore[assignment]
    name = directory.name
    return [make(logger)(run_dir=directory, config=plain | facts, name=name, job_type=job_type)]


def tags(own: list[str], facts: dict[str, Any]) -> list[str]:
    """Words to filter by: the user's, data set and backbone."""
    words = [*own, facts.get("choice/dataset"), facts.get("choice/backbone")]
    return list(dict.fromkeys(word for word in words if word))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return plain
