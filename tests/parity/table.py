"""All rows, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.parity import frames, scores, worked
from tests.parity.row import Row


def rows() -> list[Row]:
    return [*worked.rows(), *scores.rows(), *frames.rows()]


def lines(of: Iterable[Row]) -> Iterator[str]:
    """A Markdown table, line by line."""
    yield "| part | quantity | largest error | tolerance |"
    yield "|---|---|---|---|"
    for row in of:
        yield f"| `{row.part}` | {row.quantity} | {row.error():.2e} | {row.tolerance:.2e} |"
