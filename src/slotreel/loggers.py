"""The logger that was chosen, with facts for comparing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import make
from slotreel.runtime import provenance
from slotreel.runtime.logging import Sink


def chosen_logger(cfg: DictConfig) -> DictConfig | None:
    """``cfg.logger`` with the sweep as its group; None for ``logger=none``."""
    logger: DictConfig = cfg.get("logger") or OmegaConf.create()
    if "_target_" not in logger:
        return None
    if cfg.get("sweep_name") and logger.get("group", "") is None:
        logger = logger.copy()
        logger.group = cfg.sweep_name
    return logger


def open_sinks(cfg: DictConfig, directory: Path, job_type: str = "train") -> list[Sink]:
    """Wandb or whatever ``logger=`` names, for this command as a run of its own."""
    logger = chosen_logger(cfg)
    if logger is None:
        return []
    hydra = HydraConfig.get()
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    facts = provenance.describe(dict(hydra.runtime.choices), list(hydra.overrides.task), plain)
    config = plain | facts
    return [make(logger)(run_dir=directory, config=config, name=directory.name, job_type=job_type)]
