"""Checks of constructor arguments that several parts share, with errors that say what to type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slotreel.errors import ConfigError, nearest


def one_of(where: str, value: Any, known: Iterable[str]) -> None:
    """Refuse a word that is not among the known ones.

    Raises:
        ConfigError: with the closest known words.
    """
    known = list(known)
    if value not in known:
        raise ConfigError(f"{where}={value}; {nearest(str(value), known)}")


def at_least(where: str, value: float, least: float, instead: float) -> None:
    """Refuse a number below ``least``.

    Raises:
        ConfigError: with a value to type.
    """
    if value < least:
        raise ConfigError(
            f"expected {where} to be at least {least}, got {value}; type {where}={instead}"
        )


def positive(where: str, value: float, instead: float) -> None:
    """Refuse a number that is not above zero.

    Raises:
        ConfigError: with a value to type.
    """
    if value <= 0:
        raise ConfigError(f"expected {where} above 0, got {value}; type {where}={instead}")


def heads_divide(where: str, width: int, num_heads: int) -> None:
    """Refuse a number of heads that does not divide the width.

    Raises:
        ConfigError: with the numbers of heads that do.
    """
    if num_heads < 1 or width % num_heads:
        fits = [n for n in range(1, min(width, 16) + 1) if width % n == 0]
        best = min(fits, key=lambda n: abs(n - num_heads))
        raise ConfigError(
            f"slot width {width} cannot be cut into {where}={num_heads} equal heads; "
            f"type {where}={best} (possible: {', '.join(map(str, fits))})"
        )
