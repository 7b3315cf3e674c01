"""Links and pictures of the documentation exist; environment.yaml installs what setup.py says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.running import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:docs|scripts|tests|examples|conf)/[\w./]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def test_environment_yaml_installs_the_package_with_pip() -> None:
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-e .[dev]"]
    assert not any("torch" in str(d) for d in environment["dependencies"])


def test_every_option_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for group in ("grouper", "predictor", "decoder", "initializer", "projector", "losses"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in text, f"{group}={path.stem} is missing"
