"""Which combinations are refused, reduced to the few choices that are to blame."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from slotreel.combinations.options import Options, parsed, refusal

Point = tuple[str, ...]  # what is typed: ("grouper=cross_attention", "losses=[feature_rec]", ...)
Judged = dict[Point, str | None]  # why each point is refused, or None
MOST_BLAMED = 3  # choices that together are to blame, at most
_OVERRIDE = re.compile(r"(?<![\w.\[])[a-z_]\w*(?:\.\w+)*=(?:\[[^\]\s]*\]|[^\s,;:)]+)")
_TYPE = re.compile(r"\b[Tt]ype ")


class Refused(NamedTuple):
    """Choices that never go together, and what the program answers."""

    choices: frozenset[str]
    reason: str
    alternatives: tuple[Point, ...]


def products(options: Options) -> dict[str, list[Point]]:
    """The points that are judged, by the groups that are crossed; others are at their defaults.

    Losses are every option and every pair of single terms. One backbone of each class stands for
    its presets, which are crossed in a product of their own.
    """
    names = options.names
    losses, kinds = options.loss_lists(), options.backbone_kinds()
    groupers, predictors, decoders = names["grouper"], names["predictor"], names["decoder"]
    crossed: list[dict[str, list[str]]] = [
        {"grouper": groupers, "losses": losses, "predictor": predictors, "decoder": decoders},
        {"backbone": kinds, "losses": losses, "decoder": decoders},
        {"backbone": names["backbone"], "projector": names["projector"], "losses": names["losses"]},
        {"initializer": names["initializer"], "grouper": groupers, "predictor": predictors,
         "projector": names["projector"]},
        {"clip_length": ["1", "2", "4"], "losses": losses, "predictor": predictors},
    ]  # fmt: skip
    return {" x ".join(axes): _cross(options.default_point, axes) for axes in crossed}


def _cross(defaults: Mapping[str, str], axes: Mapping[str, Sequence[str]]) -> list[Point]:
    points = []
    for values in itertools.product(*axes.values()):
        chosen = {**defaults, **dict(zip(axes, values, strict=True))}
        points.append(_typed(chosen))
    return points


def _typed(chosen: Mapping[str, str]) -> Point:
    return tuple(f"{key}={value}" for key, value in chosen.items())


def judge(options: Options, points: Iterable[Point]) -> Judged:
    """Build each point; an exception that is no ``ConfigError`` is a fault and passes through."""
    return {point: refusal(options, point) for point in points}


def choices_of(options: Options, point: Point) -> frozenset[str]:
    """What a point chose: options, and of ``losses`` the terms; a set stands beside its terms."""
    chosen = set()
    for argument in point:
        key, _, value = argument.partition("=")
        if key != "losses":
            chosen.add(argument)
            continue
        chosen |= {f"losses=[{term}]" for term in options.terms(value)}
        if len(options.terms(value)) > 1 and value in options.names["losses"]:
            chosen.add(argument)
    return frozenset(chosen)


def blame(options: Options, judged: Judged) -> list[Refused]:
    """Fewest and smallest choices, always refused, that explain every refused point.

    Raises:
        AssertionError: ``MOST_BLAMED`` choices do not explain a point.
    """
    chosen = {point: choices_of(options, point) for point in judged}
    allowed = {s for p, reason in judged.items() if reason is None for s in _subsets(chosen[p])}
    points: dict[frozenset[str], list[Point]] = {}
    for point, reason in judged.items():
        for choices in _subsets(chosen[point]) if reason is not None else ():
            if choices not in allowed:
                points.setdefault(choices, []).append(point)
    unexplained = {point for point, reason in judged.items() if reason is not None}
    guilty = []
    for choices in sorted(points, key=lambda s: (len(s), -len(points[s]), sorted(s))):
        if not unexplained.isdisjoint(points[choices]):
            guilty.append(choices)
            unexplained.difference_update(points[choices])
    if unexplained:
        raise AssertionError(f"refused for more than {MOST_BLAMED} choices: {unexplained.pop()}")
    usual = choices_of(options, _typed(options.default_point))

    def strange(point: Point) -> tuple[int, int]:
        return sum(other <= chosen[point] for other in guilty), len(chosen[point] - usual)

    return [_refused(s, judged[min(points[s], key=strange)] or "") for s in guilty]


def _subsets(choices: frozenset[str]) -> Iterable[frozenset[str]]:
    for size in range(1, MOST_BLAMED + 1):
        yield from map(frozenset, itertools.combinations(sorted(choices), size))


def _refused(choices: frozenset[str], message: str) -> Refused:
    """The choices with the answer to a point that is refused for as little else as possible."""
    return Refused(choices, stem(message), tuple(alternatives(message)))


def stem(message: str) -> str:
    """A message without what it says to type."""
    return re.split(r"[;.:]? (?=[Tt]ype )", message)[0]


def alternatives(message: str) -> list[Point]:
    """What a message says to type, as lists of arguments that belong together.

    ``"...; type a=1 b=2, or c=[x,y]"`` -> ``[("a=1", "b=2"), ("c=[x,y]",)]``.
    """
    start = _TYPE.search(message)
    found: list[list[str]] = []
    end = -1
    for match in _OVERRIDE.finditer(message, start.end() if start else len(message)):
        if found and message[end : match.start()] == " ":
            found[-1].append(match[0])
        else:
            found.append([match[0]])
        end = match.end()
    return [tuple(arguments) for arguments in found]


def retyped(point: Point, alternative: Point) -> Point:
    """The point with what was said to type: a later argument replaces the one of its key."""
    keys = {parsed(argument)[0] for argument in alternative}
    return (*(a for a in point if parsed(a)[0] not in keys), *alternative)


def follow(options: Options, point: Point, alternative: Point, steps: int = 4) -> Point | None:
    """Where a user ends who types this, then the first thing each further message says.

    Returns:
        An allowed point, or None if a message repeats, says nothing to type, or ``steps`` pass.
    """
    told = {refusal(options, point)}
    for _ in range(steps):
        point = retyped(point, alternative)
        message = refusal(options, point)
        if message is None:
            return point
        said = alternatives(message)
        if message in told or not said:
            return None
        told.add(message)
        alternative = said[0]
    return None
