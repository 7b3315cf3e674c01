"""Names of sweeps and of their points: the same command, the same folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from slotreel.errors import ConfigError
from slotreel.resume import CHANGEABLE

LONGEST = 120  # characters of a name; file systems take 255, and wandb adds to it
NEUTRAL = (*CHANGEABLE, "sweep", "sweep_name", "cluster", "hydra")  # make no other point
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+,-]+")
_OVERRIDE = re.compile(r"^[+~]*(?P<key>[^=]*)(=(?P<value>.*))?$", re.S)


def point_name(overrides: Iterable[str], seed: int) -> str:
    """The folder of a point: what was typed, groups and root keys first, the seed at the end.

    ``["seed=1", "optim.lr=1", "grouper=smtc"]`` -> ``grouper=smtc,optim.lr=1_seed1``. Two names
    are equal only if the points are: what a file system may refuse is replaced, what is too long is
    cut, and a hash of the whole then stands behind.

    Args:
        overrides: as typed, of one point.
        seed: of the point, typed or not.
    """
    told = [o for o in overrides if key_of(o) != "seed" and not neutral(o)]
    parts = sorted(told, key=lambda o: ("." in key_of(o), o.lstrip("+~")))
    return f"{_safe(','.join(parts)) or 'default'}_seed{seed}"


def sweep_name(overrides: Sequence[str], swept: Sequence[str], chosen: str | None) -> str:
    """The folder of a sweep: ``sweep_name=``, the file of ``sweep=``, or made of what varies.

    The last is the swept keys and a hash of all that was typed but seeds: the same command with
    more seeds, another launcher or another device belongs to the same sweep.

    Args:
        overrides: as typed, swept values included.
        swept: keys that have several values.
        chosen: option of ``sweep=``, if any.

    Raises:
        ConfigError: ``sweep_name=`` cannot be a folder.
    """
    typed = [value_of(o) for o in overrides if key_of(o) == "sweep_name"]
    if typed and typed[-1] not in ("", "null"):
        name = typed[-1]
        if _UNSAFE.search(name) or name.startswith((".", "-")) or len(name) > LONGEST:
            raise ConfigError(
                f"sweep_name={name} names a folder: expected letters, digits and ._=+,- (at most "
                f"{LONGEST}); type sweep_name={_safe(name)}"
            )
        return name
    if chosen:
        return chosen
    told = sorted(o for o in overrides if key_of(o) != "seed" and not neutral(o))
    keys = "_x_".join(sorted({key.rpartition(".")[2] for key in swept} - {"seed"})) or "seeds"
    return f"{_safe(keys)}_{_hash(' '.join(told))}"


def key_of(override: str) -> str:
    """``+a.b=c`` -> ``a.b``."""
    match = _OVERRIDE.match(override)
    return match["key"] if match else override


def value_of(override: str) -> str:
    """``+a.b='c'`` -> ``c``."""
    return (override.partition("=")[2]).strip("'\"")


def neutral(override: str) -> bool:
    """Whether this says where or how a point runs, not what it computes."""
    key = key_of(override).replace("/", ".")
    return any(key == name or key.startswith(f"{name}.") for name in NEUTRAL)


def _safe(text: str) -> str:
    """``text`` as a file name; with a hash if something had to go."""
    plain = re.sub(r"=\[([^\[\]]*)\]", lambda m: "=" + m[1].replace(",", "+"), text)
    plain = re.sub(r"(?<![^,])\++", "", plain)  # +key=value: the plus says nothing here
    short = _UNSAFE.sub("-", plain).strip("-.")
    if short == plain and len(short) <= LONGEST:
        return short
    return f"{short[: LONGEST - 9].rstrip('-.,')}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
