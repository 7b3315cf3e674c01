"""Options are found in conf/ and in ``--config-dir``; no list of names to keep."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import running

GROUPS = ("backbone", "projector", "initializer", "grouper", "predictor", "decoder", "losses")
NEEDS_WEIGHTS = ("timm_vit", "dino", "mae")  # these are built at random, see extra()


def folders(config: pytest.Config) -> list[Path]:
    own = config.getoption("--config-dir")
    if own:
        sys.path.insert(0, str(Path.cwd()))
    return [running.CONF, *([Path(own).resolve()] if own else [])]


def options(config: pytest.Config, group: str) -> list[str]:
    return sorted({p.stem for f in folders(config) for p in (f / group).glob("*.yaml")})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "option" in metafunc.fixturenames:
        pairs = [(g, o) for g in GROUPS for o in options(metafunc.config, g)]
        assert len(pairs) > 20, "the options were not found"
        metafunc.parametrize("option", pairs, ids=[f"{g}={o}" for g, o in pairs])
    for group in ("dataset", "optim", "model", "protocol", "experiment", "debug", "validate"):
        if group in metafunc.fixturenames:
            metafunc.parametrize(group, options(metafunc.config, group))


@pytest.fixture(autouse=True)
def _own_options(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    own = request.config.getoption("--config-dir")
    if own:
        monkeypatch.setattr(running, "DOUBLES", Path(own).resolve())
