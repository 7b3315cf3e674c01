"""Rows that together hold every allowed pair of values: a covering array of strength two.

Which pairs are refused is not known beforehand. A row that is refused is reduced to the values to
blame, which no further row may hold.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from slotreel.combinations.factors import Factor, arguments
from slotreel.combinations.options import Options, refusal
from slotreel.combinations.refusals import stem

Value = tuple[Factor, str]
Pair = frozenset[Value]
Row = dict[Factor, str]
Why = Callable[[Row], "str | None"]
TRIES = 4  # rows made for a pair, of which the one with most new pairs is kept


class Covering:
    """Factors, what is known to be refused, and rows.

    Args:
        options: knows which arguments an option has.
        factors: groups before the arguments of their options.
        refused: values that never go together.
    """

    def __init__(
        self, options: Options, factors: Sequence[Factor], refused: Sequence[Pair] = ()
    ) -> None:
        self.options, self.factors = options, list(factors)
        self.refused: dict[Value, list[Pair]] = {}
        for values in refused:
            self.refuse(values)

    def refuse(self, values: Pair) -> None:
        """No row may hold these values together from now on."""
        for value in values:
            self.refused.setdefault(value, []).append(values)

    def pairs(self) -> list[Pair]:
        """Every pair of values of two factors."""
        values = [[(factor, value) for value in factor.values] for factor in self.factors]
        return [
            frozenset(pair)
            for first, second in itertools.combinations(values, 2)
            for pair in itertools.product(first, second)
        ]

    def active(self, factor: Factor, row: Mapping[Factor, str]) -> bool:
        """Whether a factor exists in a row whose groups are chosen."""
        return factor.active(self.options, {f.key: v for f, v in row.items() if f.owner is None})

    def rows(self, why: Why) -> list[Row]:
        """Rows until no pair is left that a row can hold; the same ones every time.

        Args:
            why: says why a row is refused, or None.
        """
        uncovered = dict.fromkeys(self.pairs())
        draw, rows = random.Random(0), []
        while uncovered:
            pair = next(iter(uncovered))
            tries = [self.complete(pair, uncovered, draw) for _ in range(TRIES)]
            made = [row for row in tries if row is not None]
            if not made:
                del uncovered[pair]
                continue
            row = max(made, key=lambda row: sum(p in uncovered for p in held(row)))
            reason = why(row)
            if reason is not None:
                for values in self.blame(row, reason, why):
                    self.refuse(values)
                continue
            rows.append(row)
            for covered in held(row):
                uncovered.pop(covered, None)
        return rows

    def complete(
        self,
        values: Pair,
        uncovered: Mapping[Pair, None] | None = None,
        draw: random.Random | None = None,
    ) -> Row | None:
        """A row that holds these values and nothing refused, or None if there is none."""
        wanted = dict(values)
        groups = [factor for factor in self.factors if factor.owner is None]
        others = [factor for factor in self.factors if factor.owner is not None]
        if draw is not None:
            draw.shuffle(groups)
            draw.shuffle(others)
        return self._extend({}, [*groups, *others], wanted, uncovered or {})

    def _extend(
        self,
        row: Row,
        left: Sequence[Factor],
        wanted: Mapping[Factor, str],
        uncovered: Mapping[Pair, None],
    ) -> Row | None:
        """Search with a look ahead: a factor that no value is left for ends a branch at once."""
        fits: dict[Factor, list[str]] = {}
        keys = {factor.key for factor in row}
        for factor in left:
            if factor.owner is not None and factor.owner[0] not in keys:
                continue  # whether it exists is not decided yet
            if self.active(factor, row):
                fits[factor] = self._fitting(row, factor, wanted)
                if not fits[factor]:
                    return None
        if not fits:
            return row
        owners = {f.owner[0] for f in wanted if f.owner is not None}
        pressing = (f for f in fits if f in wanted or f.key in owners or len(fits[f]) == 1)
        factor = next(pressing, next(iter(fits)))
        rest = [f for f in left if f != factor]

        def gain(value: str) -> int:
            new = (factor, value)
            return sum(frozenset((new, old)) in uncovered for old in row.items())

        for value in sorted(fits[factor], key=gain, reverse=True):
            done = self._extend({**row, factor: value}, rest, wanted, uncovered)
            if done is not None:
                return done
        return None

    def _fitting(self, row: Row, factor: Factor, wanted: Mapping[Factor, str]) -> list[str]:
        """Values that may stand beside a row."""
        fits = []
        for value in [wanted[factor]] if factor in wanted else factor.values:
            longer = {**row, factor: value}
            known = self.refused.get((factor, value), ())
            if not any(values <= longer.items() for values in known):
                fits += [value] if self._wanted(longer, factor, wanted) else []
        return fits

    def _wanted(self, row: Row, new: Factor, wanted: Mapping[Factor, str]) -> bool:
        """Whether the arguments that must be there still can be, now that a group is chosen."""
        owned = [f for f in wanted if f.owner is not None and f.owner[0] == new.key]
        return all(self.active(factor, row) for factor in owned)

    def blame(self, row: Row, reason: str, why: Why) -> list[Pair]:
        """What is to blame for a refusal, once for each list of losses it is said of.

        First every other choice is made a harmless one, as long as the answer stays: then one
        answer is left to find. To blame is what can be changed so that the row is allowed.
        """
        plain = row
        for factor in row:
            if factor in plain:
                simpler = self._with(plain, factor, factor.values[0])
                plain = simpler if _same(why(simpler), reason) else plain
        guilty = {
            factor: row[factor]
            for factor, value in plain.items()
            if any(why(self._with(plain, factor, v)) is None for v in factor.values if v != value)
        }
        if not guilty.items() <= row.items():
            raise AssertionError(f"not explained: {reason}")
        found = [frozenset(guilty.items())]
        for losses in [factor for factor in guilty if factor.key == "losses"]:
            for value in losses.values:
                if _same(why(self._with(plain, losses, value)), reason):
                    found.append(frozenset({**guilty, losses: value}.items()))
        return found

    def _with(self, row: Row, factor: Factor, value: str) -> Row:
        changed = {**row, factor: value}
        return {f: v for f, v in changed.items() if self.active(f, changed)}


def held(row: Row) -> Iterator[Pair]:
    """Every pair of values of a row."""
    return map(frozenset, itertools.combinations(row.items(), 2))


def _same(message: str | None, reason: str) -> bool:
    return message is not None and stem(message) == stem(reason)


def reasons(options: Options) -> Why:
    """Says why the model of a row is refused; remembers what it said."""
    known: dict[frozenset[str], str | None] = {}

    def why(row: Row) -> str | None:
        typed = arguments(row)
        key = frozenset(typed)
        if key not in known:
            known[key] = refusal(options, typed)
        return known[key]

    return why


def written(covering: Covering, rows: Sequence[Row]) -> str:
    """Refused values and rows as lines of text; see ``read``."""
    known = dict.fromkeys(values for found in covering.refused.values() for values in found)
    lines = sorted(" ".join(sorted(map(_named, values))) for values in known)
    head = [f"refused: {line}" for line in lines]
    return (
        "\n".join([*head, *(" ".join(f"{f.key}={v}" for f, v in r.items()) for r in rows)]) + "\n"
    )


def read(text: str, options: Options, factors: Sequence[Factor]) -> tuple[list[Pair], list[Row]]:
    """What ``written`` wrote.

    Raises:
        KeyError: a key or value that no longer exists.
    """
    named = {_named((f, v)): (f, v) for f in factors for v in f.values}
    refused, rows = [], []
    for line in text.splitlines():
        if line.startswith("refused: "):
            refused.append(frozenset(named[word] for word in line.split()[1:]))
            continue
        typed = dict(word.split("=", 1) for word in line.split())
        present = [f for f in factors if f.key in typed and f.active(options, typed)]
        rows.append(dict(named[_named((factor, typed[factor.key]))] for factor in present))
    return refused, rows


def _named(value: Value) -> str:
    factor, word = value
    return f"{factor.key}={word}" + (f"@{factor.owner[1]}" if factor.owner else "")
