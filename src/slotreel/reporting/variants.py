"""Runs that differ in nothing but the seed, and what else they differ in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slotreel.errors import ConfigError, nearest
from slotreel.fingerprint import digest
from slotreel.reporting.records import Record

# What leaves the numbers as they are, and the seed.
NOT_PART = ("seed", "name", "sweep_name", "resume", "clone", "published", "logger", "paths")
TARGET = "_target_"
NOTHING = "-"  # shown where a variant has no such setting


@dataclass(frozen=True)
class Variant:
    """Runs of one configuration.

    Attributes:
        label: what sets it apart from the other variants, e.g. ``grouper=smtc num_slots=7``.
        settings: flat configuration without the seed.
        differences: of ``settings``, those in which variants differ, as text.
        records: its runs, one per seed.
    """

    label: str
    settings: dict[str, Any]
    differences: dict[str, str]
    records: list[Record]

    @property
    def finished(self) -> list[Record]:
        """Runs that count in tables and curves."""
        return [record for record in self.records if record.finished]


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as flat keys, without seed and places; lists stay whole."""
    data = str((config.get("paths") or {}).get("data") or "")
    kept = {key: value for key, value in config.items() if key not in NOT_PART}
    return {key: _anywhere(value, data) for key, value in _flat(kept)}


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        leaves += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return leaves


def _anywhere(value: Any, data: str) -> Any:
    """A path below ``paths.data`` means the same wherever that is."""
    inside = isinstance(value, str) and data and (value == data or value.startswith(f"{data}/"))
    return f"DATA{value[len(data) :]}" if inside else value


def group_runs(records: Sequence[Record]) -> list[Variant]:
    """Variants in the order of their first runs; runs without a configuration belong to none.

    Two runs of one variant and seed are one experiment: the first finished one counts, the other
    gets a remark among its problems.
    """
    groups: dict[str, list[Record]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for record in (record for record in records if record.config):
        own = settings_of(record.config)
        key = digest(json.loads(json.dumps(own, default=str)))
        groups.setdefault(key, []).append(record)
        settings[key] = own
    everything = list(settings.values())
    keys = differing(everything)
    shown = [{key: _shown(key, own) for key in keys} for own in everything]
    names = _short(keys)
    return [
        Variant(_label(differences, names, members[0]), own, differences, _once(members))
        for (own, differences, members) in zip(everything, shown, groups.values(), strict=True)
    ]


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys in which configurations differ, in their order.

    Where another class was chosen only that choice counts; its arguments count among
    configurations that share the class.
    """
    order = list(dict.fromkeys(key for own in settings for key in own))
    return [key for key in order if _differs(key, settings)]


def _differs(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    groups: dict[str, set[str]] = {}
    for own in settings:
        classes = [own.get(f"{part}.{TARGET}") for part in _owners(key)]
        groups.setdefault(str(classes), set()).add(repr(own.get(key, NOTHING)))
    return any(len(values) > 1 for values in groups.values())


def _owners(key: str) -> list[str]:
    """The parts a key belongs to: ``decoder`` and ``decoder.inner`` of ``decoder.inner.depth``."""
    words = key.split(".")[:-1]
    depth = len(words) - (key.endswith(f".{TARGET}"))
    return [".".join(words[:n]) for n in range(1, depth + 1)]


def _shown(key: str, settings: Mapping[str, Any]) -> str:
    value = settings.get(key, NOTHING)
    if key.endswith(TARGET) and value != NOTHING:
        module, _, name = str(value).rpartition(".")
        return module.rpartition(".")[2] if module.startswith("slotreel.") else name
    return "null" if value is None else str(value)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Shortest endings that tell keys apart; a class is called by its part."""
    plain = {key: key.removesuffix(f".{TARGET}") for key in keys}
    names = {}
    for key, name in plain.items():
        words = name.split(".")
        others = [other for other in plain.values() if other != name]
        endings = (".".join(words[-n:]) for n in range(1, len(words) + 1))
        names[key] = next(
            (e for e in endings if not any(f".{o}".endswith(f".{e}") for o in others)), name
        )
    return names


def _label(differences: Mapping[str, str], names: Mapping[str, str], record: Record) -> str:
    words = [f"{names[key]}={value}" for key, value in differences.items()]
    return " ".join(words) or str(record.config.get("name") or record.name)


def _once(members: Sequence[Record]) -> list[Record]:
    kept: dict[Any, Record] = {}
    for record in sorted(members, key=lambda record: not record.finished):
        first = kept.setdefault(record.config["seed"], record)
        if first is not record:
            record.problems.append(
                f"the same configuration and seed as {first.directory}: only that one counts"
            )
    return [record for record in members if kept[record.config["seed"]] is record]


def pick(variants: Sequence[Variant], name: str | None) -> Variant:
    """The variant with this label or the only one with this part of a label; None: the first.

    Raises:
        ConfigError: none or several fit.
    """
    labels = [variant.label for variant in variants]
    if name is None:
        return variants[0]
    fitting = [v for v in variants if v.label == name] or [v for v in variants if name in v.label]
    if len(fitting) != 1:
        several = "no variant" if not fitting else f"{len(fitting)} variants"
        raise ConfigError(f"--baseline {name!r} names {several}; {nearest(name, labels)}")
    return fitting[0]
