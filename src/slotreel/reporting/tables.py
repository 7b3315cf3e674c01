"""The table of a paper: variants by set, protocol and metric; Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from slotreel.errors import ConfigError, nearest
from slotreel.reporting.comparing import Cell, Comparison, Line
from slotreel.reporting.costs import COSTS, IN_TABLES, costs_of, show_cost
from slotreel.reporting.variants import Variant
from slotreel.score_text import HEADLINES, markdown_table
from slotreel.scores import COLUMNS


class Place(NamedTuple):
    """One column of scores."""

    comparison: Comparison
    metric: str
    title: str  # names set and protocol, and tells equal ones apart


class Entry(NamedTuple):
    """One row: what it is called, its scores and costs."""

    label: str
    lines: Mapping[str, Line]  # by identity of the column
    costs: Mapping[str, Cell]

    def line(self, place: Place) -> Line | None:
        """Its line in the comparison of a place."""
        return self.lines.get(place.comparison.column.identity)


def places_of(comparisons: Sequence[Comparison], metrics: Sequence[str]) -> list[Place]:
    """Columns to show.

    Args:
        comparisons: one per set and protocol.
        metrics: to show; none: those a run is judged by; ``all``: all of them.

    Raises:
        ConfigError: a metric that was not measured.
    """
    known = list(dict.fromkeys(m for c in comparisons for m in c.metrics))
    for metric in metrics:
        if metric not in (*known, "all"):
            raise ConfigError(f"--metrics {metric} was not measured; {nearest(metric, known)}")
    titles = titles_of(comparisons)
    places = []
    for comparison, title in zip(comparisons, titles, strict=True):
        judged = [m for m in HEADLINES if m in comparison.metrics] or comparison.metrics[:1]
        wanted = comparison.metrics if "all" in metrics else metrics or judged
        places += [Place(comparison, m, title) for m in wanted if m in comparison.metrics]
    return places


def titles_of(comparisons: Sequence[Comparison]) -> list[str]:
    """``set/protocol`` of each; numbered where equal names were scored in different ways."""
    plain = [f"{c.column.set}/{c.column.protocol}" for c in comparisons]
    seen: dict[str, int] = {}
    titles = []
    for title in plain:
        seen[title] = seen.get(title, 0) + 1
        titles.append(f"{title} ({seen[title]})" if plain.count(title) > 1 else title)
    return titles


def entries_of(comparisons: Sequence[Comparison], variants: Sequence[Variant]) -> list[Entry]:
    """Rows without training on top, then variants in their order."""
    labels: dict[tuple[bool, str], dict[str, Line]] = {}
    for comparison in comparisons:
        for line in comparison.lines:
            key = (line.kind == "variant", line.label)
            labels.setdefault(key, {})[comparison.column.identity] = line
    trivial = [Entry(label, lines, {}) for (of, label), lines in labels.items() if not of]
    own = [Entry(v.label, labels.get((True, v.label), {}), costs_of(v)) for v in variants]
    return [*trivial, *(entry for entry in own if entry.lines)]


def markdown(entries: Sequence[Entry], places: Sequence[Place]) -> str:
    """As Markdown, in percent; below it every protocol in one line."""

    def show(text: str, bold: bool) -> str:
        return f"**{text}**" if bold else text

    head = ["percent", *(f"{p.title} {COLUMNS.get(p.metric, p.metric)}" for p in places), "seeds"]
    lines = [[*head, *(COSTS[key][0] for key in IN_TABLES)]]
    lines += [[e.label.replace("|", "\\|"), *_texts(e, places, " ± ", show)] for e in entries]
    return "\n".join([markdown_table(lines), "", *(f"- {line}" for line in notes(places))]) + "\n"


def latex(entries: Sequence[Entry], places: Sequence[Place]) -> str:
    """As a LaTeX tabular of the package booktabs; protocols stand in comments."""

    def show(text: str, bold: bool) -> str:
        number, _, spread = text.partition(" \\pm ")
        if text == "-":
            return "--"
        number = f"\\mathbf{{{number}}}" if bold else number
        return f"${number} \\pm {spread}$" if spread else f"${number}$"

    titles = dict.fromkeys(place.title for place in places)
    spans = {title: sum(place.title == title for place in places) for title in titles}
    groups = [f"\\multicolumn{{{n}}}{{c}}{{{escape(title)}}}" for title, n in spans.items()]
    metrics = [escape(COLUMNS.get(place.metric, place.metric)) for place in places]
    costs = [escape(COSTS[key][0]) for key in IN_TABLES]
    rows = [" & ".join(["", *groups, *[""] * (1 + len(costs))])]
    rows.append(" & ".join(["", *metrics, "seeds", *costs]))
    body = [" & ".join([escape(e.label), *_texts(e, places, " \\pm ", show)]) for e in entries]
    trained = sum(bool(entry.costs) for entry in entries)
    rules = {0: "\\midrule"} | ({len(entries) - trained: "\\midrule"} if trained else {})
    ruled = [f"{rules[n]}\n{line}" if n in rules else line for n, line in enumerate(body)]
    align = "l" + "r" * (len(places) + 1 + len(costs))
    text = " \\\\\n".join([*rows, *ruled]).replace("\\\\\n\\midrule", "\\\\\n\\midrule")
    comments = "".join(f"% {line}\n" for line in notes(places))
    return (
        f"{comments}\\begin{{tabular}}{{{align}}}\n\\toprule\n{text} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _texts(
    entry: Entry, places: Sequence[Place], plus_minus: str, show: Callable[[str, bool], str]
) -> list[str]:
    """Scores, seeds and costs of a row as text."""
    texts, seeds = [], set()
    for place in places:
        line = entry.line(place)
        cell = line.cells.get(place.metric) if line else None
        bold = line is not None and place.metric in line.bold
        texts.append(show(percent(cell, plus_minus), bold))
        seeds |= {cell.seeds} if cell else set()
    texts.append(" to ".join(str(n) for n in sorted({min(seeds), max(seeds)})) if seeds else "-")
    return texts + [show_cost(key, entry.costs.get(key)) for key in IN_TABLES]


def percent(cell: Cell | None, plus_minus: str = " ± ") -> str:
    """A score in percent; a dash where there is none."""
    if cell is None:
        return "-"
    text = f"{round(100 * cell.mean, 1) + 0.0:.1f}"  # adding 0 turns -0.0 into 0.0
    return text if cell.std is None else f"{text}{plus_minus}{100 * cell.std:.1f}"


def notes(places: Sequence[Place]) -> list[str]:
    """How to read a table: the protocol of each column, what bold and the spread mean."""
    columns = {place.title: place.comparison for place in places}
    lines = [f"{title}: {c.counted}; {c.column.description}" for title, c in columns.items()]
    return [
        *lines,
        "mean ± standard deviation over seeds (n - 1); percent; hours without validation.",
        "Bold: best of all rows that do not see the truth, and the 95 % interval of its difference "
        "to the baseline (paired bootstrap over videos, seeds averaged) excludes 0.",
    ]


def as_csv(entries: Sequence[Entry], places: Sequence[Place]) -> str:
    """Fractions: mean, std, seeds, and the difference to the baseline with its interval."""
    file = io.StringIO()
    parts = ("mean", "std", "seeds", "difference", "low", "high")
    head = [f"{place.title}/{place.metric}/{part}" for place in places for part in parts]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "kind", *head, *COSTS])
    for entry in entries:
        cells: list[object] = []
        for place in places:
            line = entry.line(place)
            cell = line.cells.get(place.metric) if line else None
            difference = line.differences.get(place.metric) if line else None
            cells += cell or [None] * 3
            cells += difference or [None] * 3
        kind = next(iter(entry.lines.values())).kind
        costs = [entry.costs[key].mean if key in entry.costs else None for key in COSTS]
        writer.writerow([entry.label, kind, *cells, *costs])
    return file.getvalue()


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "±": "$\\pm$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX shows it unchanged."""
    return re.sub(r"[&%$#_{}\\~^<>±]", lambda match: _SPECIAL[match.group()], text)
