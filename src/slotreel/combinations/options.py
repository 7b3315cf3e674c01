"""What can be combined: the options found in conf/, composed without a Hydra run for each point."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from slotreel.assemble import build_objective
from slotreel.cli import groups_of
from slotreel.errors import ConfigError

GROUPS = (
    "model", "backbone", "projector", "initializer", "grouper", "predictor", "decoder", "tokenizer",
    "losses",
)  # fmt: skip
READ = (*GROUPS, "trainer", "seed", "image_size", "clip_length", "num_slots", "slot_dim")


class Options:
    """Options of the groups that make a model.

    Args:
        conf: folder of groups; a YAML file put there joins.
    """

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        found = groups_of([conf])
        self.names = {group: sorted(found.get(group, ())) for group in GROUPS}
        if "precomputed" in self.names["backbone"]:  # stands for another one, whose folder it needs
            self.names["backbone"].remove("precomputed")
        self._nodes: dict[str, Any] = {}

    @cached_property
    def default_point(self) -> dict[str, str]:
        """What ``./train.py`` chooses in each group."""
        listed = OmegaConf.load(self.conf / "train.yaml").defaults
        chosen = {
            group: value for item in listed if item != "_self_" for group, value in item.items()
        }
        return {
            group: f"[{','.join(value)}]" if isinstance(value, ListConfig) else value
            for group, value in chosen.items()
            if group in GROUPS
        }

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What ``./train.py`` composes without arguments, as far as a model reads it."""
        with initialize_config_dir(str(self.conf.resolve()), version_base="1.3"):
            cfg = compose("train")
        kept = OmegaConf.masked_copy(cfg, list(READ))
        plain: dict[str, Any] = OmegaConf.to_container(kept)  # type: ignore[assignment]
        return plain

    def node(self, group: str, option: str) -> dict[str, Any]:
        """Content of ``group=option``."""
        name = f"{group}/{option}"
        if name not in self._nodes:
            with initialize_config_dir(str(self.conf.resolve()), version_base="1.3"):
                self._nodes[name] = OmegaConf.to_container(compose(name)[group])
        content: dict[str, Any] = self._nodes[name]
        return content

    def compose(self, typed: Iterable[str]) -> DictConfig:
        """The configuration of ``./train.py`` with these arguments, as far as a model reads it."""
        chosen: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for key, value in map(parsed, typed):
            (chosen if key in self.names else values)[key] = value
        content = dict(self.defaults)
        for group, value in chosen.items():
            merged: dict[str, Any] = {}
            for option in value if isinstance(value, list) else [value]:
                if option not in self.names[group]:
                    raise ConfigError(f"{group} has no option {option}")
                merged = _merge(merged, self.node(group, option))
            content[group] = merged
        cfg = OmegaConf.create(content)
        for key, value in values.items():
            OmegaConf.update(cfg, key, value)
        return cfg

    def terms(self, losses: str) -> list[str]:
        """Loss terms of ``losses=...``, in order; a set brings several."""
        _, value = parsed(f"losses={losses}")
        names = value if isinstance(value, list) else [value]
        return list(dict.fromkeys(term for name in names for term in self.node("losses", name)))

    def single_losses(self) -> list[str]:
        """Options of ``losses`` that are one term; the others are sets."""
        return [name for name in self.names["losses"] if len(self.node("losses", name)) == 1]

    def loss_lists(self) -> list[str]:
        """Every option of ``losses``, then every pair of single terms."""
        pairs = itertools.combinations(self.single_losses(), 2)
        return [*self.names["losses"], *(f"[{a},{b}]" for a, b in pairs)]

    def chained_losses(self) -> list[str]:
        """Every option of ``losses``, then each single term with the next."""
        single = self.single_losses()
        pairs = zip(single, [*single[1:], single[0]], strict=True)
        return [*self.names["losses"], *(f"[{a},{b}]" for a, b in pairs)]

    def optims(self) -> list[str]:
        """Options of ``optim`` that suit any model; others have groups for some parts alone."""
        names = sorted(groups_of([self.conf])["optim"])
        return [name for name in names if list(self.node("optim", name)["groups"]) == ["all"]]

    def backbone_kinds(self) -> list[str]:
        """One backbone of each class: presets differ in weights, width and patch alone."""
        kinds: dict[str, str] = {}
        for name in self.names["backbone"]:
            kinds.setdefault(self.node("backbone", name)["_target_"], name)
        return sorted(kinds.values())


def parsed(argument: str) -> tuple[str, Any]:
    """``key=value`` as Hydra reads it: ``"losses=[a,b]"`` -> ``("losses", ["a", "b"])``."""
    override = OverridesParser.create().parse_override(argument)
    return override.key_or_group, override.value()


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return merged


def refusal(options: Options, typed: Sequence[str]) -> str | None:
    """Why the model of these arguments is refused, or None if it is built.

    It is built on the meta device, without weights and without the depth of large backbones:
    shapes are those of the run, numbers are not.
    """
    try:
        cfg = options.compose(typed)
        _without_weights(cfg.backbone)
        with torch.device("meta"):
            build_objective(cfg)
    except ConfigError as error:
        return str(error)
    return None


def _without_weights(backbone: DictConfig) -> None:
    if "weights" in backbone:
        backbone.weights = "random"
    if "model_args" in backbone:
        backbone.model_args = {"depth": 1, **backbone.model_args}
