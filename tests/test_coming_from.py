"""Everything docs/coming_from.md says to type here exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests import running
from tests.running import ROOT

PAGE = (ROOT / "docs" / "coming_from.md").read_text()
OURS = [
    line.split(" | ")[-1].removesuffix(" |")
    for line in PAGE.splitlines()
    if line.startswith("| ") and "| theirs | ours |" not in line
]
CODE = [code for cell in OURS for code in re.findall(r"`([^`]+)`", cell)]
FRAGMENTS = [code for code in CODE if re.match(r"[a-z_.]+=", code)]
# test_cli.py composes every other command of the documentation
PROGRAMS = [code for code in CODE if re.match(r"\./\w+\.py resume=|torchrun", code)]
SCRIPTS = [code for code in CODE if code.startswith("python scripts/")]


def test_the_page_has_commands() -> None:
    assert (len(FRAGMENTS), len(PROGRAMS), len(SCRIPTS)) >= (30, 2, 7)
    assert "+" not in "".join(FRAGMENTS + PROGRAMS)


@pytest.mark.parametrize("code", FRAGMENTS)
def test_a_setting_is_a_key_or_an_option(code: str) -> None:
    words = [word for word in code.split() if not word.startswith("hydra.")]
    cfg = running.composed("train", *words)
    for word in words:
        key, _, value = word.partition("=")
        if "." in key:
            found = OmegaConf.select(cfg, key)
            assert str(found) == str(float(value) if isinstance(found, float) else value)


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_command_composes(code: str) -> None:
    words = shlex.split(code)
    if words[0] == "torchrun":
        words = words[2:]
    name = words[0].removeprefix("./").removesuffix(".py")
    composed = running.composed(name, *words[1:])
    given = dict(word.split("=", 1) for word in words[1:])
    for key in {"checkpoint", "resume", "init_from", "input", "output"} & set(given):
        assert composed[key] == given[key]


@pytest.mark.parametrize("code", SCRIPTS)
def test_a_script_takes_these_arguments(code: str) -> None:
    path, *arguments = shlex.split(code)[1:]
    spec = importlib.util.spec_from_file_location("script", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = vars(module.parser().parse_intermixed_args(arguments))
    assert {word for word in arguments if not word.startswith("-")} <= set(_words(given.values()))


def _words(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, list):
            yield from _words(value)
        else:
            yield str(value)


def test_variables_are_read() -> None:
    text = (running.CONF / "paths" / "default.yaml").read_text()
    for name in re.findall(r"variable `(\w+)`", PAGE):
        assert f"oc.env:{name}," in text


def test_make_targets_exist() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`make ([\w-]+)`", PAGE)
    assert len(targets) == 3
    for target in targets:
        assert f"\n{target}:" in text
