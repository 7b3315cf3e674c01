"""The report as one HTML file that needs nothing else: no network, no server, no account."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from slotreel.protocols.symptoms import SYMPTOMS
from slotreel.reporting.comparing import HEALTH, Cell, Comparison, compare
from slotreel.reporting.costs import COSTS, EXPLAINED, costs_of, show_cost
from slotreel.reporting.curves import Chart, chart_of, charts
from slotreel.reporting.records import Record
from slotreel.reporting.svg import draw, swatch
from slotreel.reporting.tables import percent, titles_of
from slotreel.reporting.variants import Variant, group_runs, pick
from slotreel.score_text import HEADLINES
from slotreel.scores import COLUMNS, LESS_IS_BETTER

MOST_PX = 1100  # wider pictures are shrunk


class Contents(NamedTuple):
    """Everything a report says, in whatever form."""

    records: list[Record]
    variants: list[Variant]
    baseline: Variant | None
    comparisons: list[Comparison]


def collect(records: Sequence[Record], baseline: str | None = None) -> Contents:
    """Group and compare runs.

    Args:
        records: runs, unfinished and damaged ones too.
        baseline: label of the variant that differences are taken to, or a part of it; None: the
            first that is finished.
    """
    variants = group_runs(records)
    finished = [variant for variant in variants if variant.finished]
    base = pick(finished, baseline) if finished else None
    comparisons = compare(variants, base) if base else []
    return Contents(list(records), variants, base, comparisons)


def render(contents: Contents) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("slotreel.reporting", "templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    titles = titles_of(contents.comparisons)
    main, rest = charts(contents.variants, contents.comparisons, titles)
    shown = {curve.style: curve.label for chart in [*main, *rest] for curve in chart.curves}
    runs = [_run(number, record, contents) for number, record in enumerate(contents.records)]
    return environment.get_template("report.html.j2").render(
        contents=contents,
        titles=titles,
        runs=runs,
        drawn=[run for variant in contents.variants if (run := _drawn(variant, runs))],
        legend=[(swatch(style), shown[style]) for style in sorted(shown)],
        main=[_figure(chart) for chart in main],
        rest=[_figure(chart) for chart in rest],
        costs=[(variant, costs_of(variant)) for variant in contents.variants if variant.finished],
        columns=COLUMNS, health=HEALTH, cost_columns=COSTS, cost_note=EXPLAINED,
        percent=percent, show_cost=show_cost, show_health=_health, symptom=_is_symptom,
        no_better=_no_better, interval=_interval, headlines=HEADLINES,
    )  # fmt: skip


def _figure(chart: Chart) -> dict[str, str]:
    return {"title": chart.title, "svg": draw(chart)}


def _run(number: int, record: Record, contents: Contents) -> dict[str, Any]:
    """What the page shows of one run; a picture that cannot be read becomes a problem."""
    pictures = []
    for place, path in enumerate(record.pictures):
        try:
            source = embedded(path)
            pictures.append({"id": f"mask-{number}-{place}", "name": path.stem, "src": source})
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all of them
            record.problems.append(f"media/{path.name} cannot be read: {error}")
    variant = next((v for v in contents.variants if record in v.records), None)
    keys = dict.fromkeys(key for row in record.history.values() for key in row)
    scores = [k for k in keys if k.startswith("val/") and k.rpartition("/")[2] in HEADLINES]
    drawn = [chart_of(key, key, [(record.name, 0, [record])]) for key in ["train/loss", *scores]]
    return {
        "id": f"run-{number}",
        "record": record,
        "variant": variant,
        "state": _state(record),
        "config": yaml.safe_dump(record.config, sort_keys=False) if record.config else "",
        "pictures": pictures,
        "charts": [_figure(chart) for chart in drawn if chart.curves],
        "videos": [_videos(result.own().table) for result in record.results.values()],
    }


def _drawn(variant: Variant, runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first run of a variant that has pictures."""
    return next((run for run in runs if run["variant"] is variant and run["pictures"]), None)


def _state(record: Record) -> str:
    if record.finished:
        return "finished"
    return "not finished" if record.history or record.config else "damaged"


def _videos(table: Any) -> dict[str, Any]:
    """Scores of every video under one protocol."""
    metrics = [m for m in [*COLUMNS, *sorted(table.means().keys() - COLUMNS.keys())]]
    own = [m for m in metrics if m in table.means()]
    rows = [(video, table.only(video).means()) for video in sorted(table.rows)]
    return {"table": table, "metrics": own, "rows": rows}


def embedded(path: Path) -> str:
    """A picture as an address that holds it."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((MOST_PX, MOST_PX * 4))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=75, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _health(name: str, cell: Cell | None) -> str:
    if cell is None or not math.isfinite(cell.mean):
        return "-"
    return f"{round(cell.mean, 2) + 0.0:.1f}" if name == "effective_slots" else f"{cell.mean:.2f}"


def _is_symptom(name: str, cell: Cell | None) -> bool:
    """Whether docs/troubleshooting.md has a section on such a number."""
    bounds = [bound for group in SYMPTOMS.values() for bound in group if bound.name == name]
    return cell is not None and any(bound.crossed({name: cell.mean}) for bound in bounds)


def _no_better(comparison: Comparison, metric: str, cell: Cell | None) -> bool:
    """Whether a row without training does as well."""
    trivial = comparison.best_trivial(metric)
    if cell is None or trivial is None or metric in LESS_IS_BETTER:
        return False
    return cell.mean <= trivial


def _interval(difference: Any) -> str:
    """A difference in percent with its interval."""
    value, low, high = (round(100 * x, 1) + 0.0 for x in difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
