"""Errors a user can act on: what was expected, what came, what to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix; printed without a traceback by the entry points."""


class ConfigError(UserError):
    """The configuration asks for something that cannot be."""


class DataError(UserError):
    """A file is missing, damaged or not in the expected layout; the message names it."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or belongs to another model; the message says which keys."""


def nearest(word: str, known: Iterable[str], n: int = 3) -> str:
    """A hint such as ``did you mean: a, b?`` or the list of all names if nothing is close."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=n, cutoff=0.5)
    return f"did you mean: {', '.join(close)}?" if close else f"choose one of: {', '.join(known)}"
