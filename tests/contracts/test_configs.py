"""Every configuration composes, and what it names can be made."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, ListConfig

from slotreel.assemble import build_objective, image_size_of, make
from slotreel.interfaces import Objective
from tests import running


def nodes(cfg: object) -> list[DictConfig]:
    """Every mapping below ``cfg`` that names a target."""
    found = []
    if isinstance(cfg, DictConfig):
        found += [cfg] if "_target_" in cfg else []
        found += [n for key in cfg for n in nodes(cfg._get_node(key))]
    elif isinstance(cfg, ListConfig):
        found += [n for value in cfg for n in nodes(value)]
    return found


def check_arguments(cfg: DictConfig) -> None:
    for node in nodes(cfg):
        target = get_object(node["_target_"])
        known = inspect.signature(target).parameters
        extra = [
            k
            for k in node
            if not k.startswith("_") and k not in known  # type: ignore[union-attr]
        ]
        open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
        assert not extra or open_ended, f"{node['_target_']} takes no {extra}"


def test_dataset(dataset: str) -> None:
    check_arguments(running.composed("train", f"dataset={dataset}"))


def test_validate(validate: str) -> None:
    check_arguments(running.composed("train", f"validate={validate}"))


def test_optim(optim: str) -> None:
    cfg = running.composed("train", f"optim={optim}")
    check_arguments(cfg)
    for group in cfg.optim.groups.values():
        schedule = make(group.schedule)()
        assert schedule(0) >= 0
        assert schedule(10**6) >= 0


def test_protocol(protocol: str) -> None:
    cfg = running.composed("train", f"protocol={protocol}")
    assert make(cfg.protocol)().name == protocol


def test_debug(debug: str) -> None:
    check_arguments(running.composed("train", f"debug={debug}"))


def test_experiment(experiment: str) -> None:
    check_arguments(running.composed("train", f"experiment={experiment}"))


def test_model(model: str) -> None:
    free = ["backbone=tiny_vit", "backbone.weights=random", "backbone.frozen=false"]
    more = free if model == "masked_autoencoder" else []
    cfg = running.composed("train", f"model={model}", *more)
    check_arguments(cfg)
    objective = build_objective(cfg)
    assert isinstance(objective, Objective)
    assert image_size_of(cfg) == (64, 64)
    if not objective.trainable:
        assert not list(objective.parameters())


@pytest.mark.parametrize("path", sorted(running.CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_each_file_says_how_to_enable_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    comments = [line for line in lines[:3] if line.startswith("#") and "@package" not in line]
    assert comments, f"{path} must begin with a comment that says how to enable it"


def test_targets_are_classes() -> None:
    cfg = running.composed("train")
    for group in ("backbone", "grouper", "predictor", "decoder", "initializer", "projector"):
        assert inspect.isclass(get_class(cfg[group]["_target_"]))
