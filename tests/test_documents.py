"""Links and pictures of the documentation exist; environment.yaml installs what setup.py says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from scripts import reproductions
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


def test_the_page_of_reproductions_is_up_to_date() -> None:
    assert reproductions.main(["--check"]) == 0


def test_our_numbers_stand_beside_published_ones(tmp_path: Path) -> None:
    paper = {"protocol": "p", "metric": "jf", "value": 0.5, "videos": 3, "source": "a paper"}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"published": [paper]}))
    (tmp_path / "two.yaml").write_text("name: two\n")
    assert "| 50.0 | not run yet |  | a paper |" in reproductions.page(tmp_path, {})
    ours = {"value": 0.481, "seeds": 3, "hours": 2, "hardware": "one H100", "date": "2026-11-21"}
    text = reproductions.page(tmp_path, {"one": {"p/jf": ours}})
    assert "| 50.0 | 48.1 (3) | one H100, 2 | a paper |" in text
