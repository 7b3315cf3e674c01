"""What was judged, as text for a terminal and as docs/combinations.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slotreel.combinations.options import Options
from slotreel.combinations.refusals import Judged, Refused

HEAD = """# Any sensible combination

Made by `scripts/combinations.py`, which builds every combination below without weights: all runs,
but those with the choices listed under *Refused*. `./train.py` answers these before the first batch
with the reason and what to type; following that leads to a combination that runs (tested).

`losses` stands for every option of the group and every pair of single terms. Groups that a product
does not name, and all numbers, are at the defaults of `./train.py`, but for the depth of large
backbones, which is 1. Where a product has {kinds}, each stands for all presets of its class.
"""
REFUSED = """
## Refused

Choices that together are refused whichever other options are chosen, at the default numbers
(`slot_dim=64`, `image_size=64`); `losses=[a]` means any list with `a`.

| choices | reason | what to type |
|---|---|---|
"""
TRAINED = """
## Trained

`tests/contracts/covering.txt` holds {rows} small combinations in which every allowed pair of values
of {factors} factors occurs: options, words and switches of parts, and a few numbers. The slow tests
train each for two steps: finite loss and gradients, and no parameter without one.
"""


def markdown(
    options: Options,
    judged: Mapping[str, Judged],
    refused: Iterable[Refused],
    trained: tuple[int, int],
) -> str:
    """The whole page.

    Args:
        options: of the suite.
        judged: by product.
        refused: choices to blame.
        trained: number of rows of the covering array and of its factors.
    """
    kinds = ", ".join(f"`backbone={name}`" for name in options.backbone_kinds())
    counts = [
        f"| {product} | {len(points)} | {_allowed(points)} | {len(points) - _allowed(points)} |\n"
        for product, points in judged.items()
    ]
    table = "\n| product | combinations | allowed | refused |\n|---|---:|---:|---:|\n"
    rows = [
        f"| {_code(_ordered(item))} | {item.reason} | "
        f"{' or '.join(_code([' '.join(typed)]) for typed in item.alternatives)} |\n"
        for item in refused
    ]
    end = TRAINED.format(rows=trained[0], factors=trained[1])
    return HEAD.format(kinds=kinds) + table + "".join(counts) + REFUSED + "".join(rows) + end


def text(judged: Mapping[str, Judged], refused: Iterable[Refused]) -> str:
    """The same for a terminal."""
    lines = [
        f"{product}: {len(points)} combinations, {_allowed(points)} allowed, "
        f"{len(points) - _allowed(points)} refused"
        for product, points in judged.items()
    ]
    lines += ["", "refused, whatever else is chosen:"]
    for item in refused:
        typed = " or ".join(" ".join(arguments) for arguments in item.alternatives)
        lines += [f"  {' '.join(_ordered(item))}", f"    {item.reason}", f"    type {typed}"]
    return "\n".join(lines)


def _allowed(points: Judged) -> int:
    return sum(reason is None for reason in points.values())


def _ordered(item: Refused) -> list[str]:
    return sorted(item.choices)


def _code(choices: Iterable[str]) -> str:
    return " ".join(f"`{choice}`" for choice in choices)
