"""What varies between small trained combinations: groups, words and switches, numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hydra.utils import get_class

from slotreel.combinations.options import Options

FIXED = ("image_size=32", "slot_dim=12", "trainer.batch_size=2")
SMALL = {
    "backbone=patches": ("backbone.samples=2",),
    "backbone=tiny_vit": ("backbone.width=12", "backbone.depth=1", "backbone.weights=random"),
    "backbone=small_cnn": ("backbone.channels=[12,12]", "backbone.strides=[2,2]"),
    "decoder=mlp": ("decoder.hidden_dim=16",),
    "decoder=slot_mixer": ("decoder.hidden_dim=16",),
    "decoder=spatial_broadcast": ("decoder.channels=8", "decoder.kernel_size=3"),
}  # an option that is not named here is trained as it is; every feature is as wide as a slot
HARMLESS = {"backbone": "tiny_vit", "grouper": "smtc"}  # has keys and is frozen; has both levels
NUMBERS = {
    "clip_length": ("2", "1", "4"),
    "num_slots": ("3", "1"),
    "model.ema": ("0.9", "null"),
    "trainer.precision": ("fp32", "bf16"),
    "trainer.accumulate": ("1", "2"),
}
ARGUMENTS = {
    "grouper=slot_attention": {"grouper.hidden_dim": ("16", "0"), "grouper.num_iters": ("1", "2")},
    "initializer=gaussian": {"initializer.groups": ("null", "[1,2]")},
    "projector=grid_mlp": {"projector.embed_dim": ("8", "null")},
}  # numbers that turn a part into another published variant; words and switches are found


@dataclass(frozen=True, eq=False)
class Factor:
    """A key and the values it takes."""

    key: str
    values: tuple[str, ...]
    owner: tuple[str, str] | None = None  # (group, option or term): only where that is chosen

    def active(self, options: Options, chosen: Mapping[str, str]) -> bool:
        """Whether the key exists beside these choices."""
        if self.owner is None:
            return True
        group, option = self.owner
        if group not in chosen:
            return False
        if group == "losses":
            return option in options.terms(chosen[group])
        return chosen[group] == option


def factors(options: Options) -> list[Factor]:
    """Groups first, then numbers, then arguments of the options."""
    names = options.names
    small = [
        b for b in options.backbone_kinds() if options.node("backbone", b).get("weights") != "hub"
    ]
    groups = {
        "losses": options.chained_losses(),
        "backbone": small,
        **{g: names[g] for g in ("grouper", "decoder", "predictor", "initializer", "projector")},
        "optim": [
            o for o in options.optims() if list(options.node("optim", o)["groups"]) == ["all"]
        ],
    }
    found = [Factor(group, _first(HARMLESS.get(group), values)) for group, values in groups.items()]
    found += [Factor(key, values) for key, values in NUMBERS.items()]
    for group in groups:
        for name in [] if group == "optim" else groups[group]:
            if group != "losses" or name in options.single_losses():
                found += _arguments(options, group, name)
    return [*found, *_words("model", None, options.node("model", "slots"))]


def _first(harmless: str | None, values: list[str]) -> tuple[str, ...]:
    """Values, the one first that refuses least: reasons are looked for with the others at it."""
    return tuple(sorted(values, key=lambda value: value != harmless))


def _arguments(options: Options, group: str, option: str) -> list[Factor]:
    node = options.node(group, option)
    key = group
    if group == "losses":
        (option,) = node
        node, key = node[option], f"losses.{option}"
    by_hand = ARGUMENTS.get(f"{group}={option}", {})
    owner = (group, option)
    return [*_words(key, owner, node), *(Factor(k, v, owner) for k, v in by_hand.items())]


def _words(key: str, owner: tuple[str, str] | None, node: Mapping[str, Any]) -> Iterator[Factor]:
    """Arguments of the class a node names that take one of some words, or true and false."""
    if "_target_" not in node:
        return
    create = get_class(node["_target_"]).__init__  # type: ignore[misc]
    hints = get_type_hints(create)
    for name, parameter in inspect.signature(create).parameters.items():
        words = _spelled(hints.get(name))
        if words and parameter.default is not parameter.empty:
            first = str(node.get(name, parameter.default))
            first = first.lower() if first in ("True", "False") else first
            yield Factor(f"{key}.{name}", (first, *(w for w in words if w != first)), owner)


def _spelled(hint: object) -> tuple[str, ...]:
    if hint is bool:
        return "false", "true"
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def arguments(row: Mapping[Factor, str]) -> list[str]:
    """What to type for a row: every value, then what keeps the chosen options small."""
    chosen = [f"{factor.key}={value}" for factor, value in row.items()]
    small = [more for choice in chosen for more in SMALL.get(choice, ())]
    return [*chosen, *small, *FIXED]
