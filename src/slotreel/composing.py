"""Configurations composed inside a program: no command line, no trace in a caller's own Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict

from slotreel.cli import check_groups, explain, is_hydra, quote_path
from slotreel.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a command, as ``./NAME.py OVERRIDES`` would see it.

    Args:
        name: of the command: train, eval or predict.
        overrides: ``group=option`` and ``key=value``, as typed on a command line.

    Returns:
        The configuration with every interpolation resolved.

    Raises:
        ConfigError: conf/ is not there, an override names no option or key, or it does not parse.
    """
    if not (CONF / f"{name}.yaml").is_file():
        raise ConfigError(
            f"expected the configuration folder at {CONF}, found none; install slotreel from a "
            "checkout with `make install` or `pip install -e .`"
        )
    typed = list(overrides)
    check_groups(typed, CONF)
    with _own_hydra():
        try:
            plain = _composed(name, [quote_path(override) for override in typed])
        except Exception as error:
            if is_hydra(error):
                raise ConfigError(explain(error, typed, CONF, name)) from error
            raise
    return plain


def _composed(name: str, typed: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(name, typed, return_hydra_config=True)
    return task_config(cfg)


def task_config(cfg: DictConfig) -> DictConfig:
    """A command's own part of a configuration composed with Hydra's, every interpolation resolved.

    Leaves Hydra's part as the one that ``${hydra:...}`` reads.
    """
    HydraConfig.instance().set_config(cfg)
    task = cfg.copy()
    with open_dict(task):
        del task["hydra"]  # its own interpolations want a job that runs
    plain = OmegaConf.create(OmegaConf.to_container(task, resolve=True))
    assert isinstance(plain, DictConfig)
    return plain


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Hydra's global state as if nobody used it yet; afterwards as it was."""
    hydra, config, version = GlobalHydra.instance(), HydraConfig.instance(), VersionBase.instance()
    kept = hydra.hydra, config.cfg, version.version_base
    hydra.clear()
    try:
        yield
    finally:
        # by class: leaving initialize_config_dir puts another instance in place
        GlobalHydra.set_instance(hydra)
        hydra.hydra, config.cfg, version.version_base = kept
