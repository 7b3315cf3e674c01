"""Charts as SVG text: lines, bands, level lines; told apart by colour, dashes and marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from slotreel.reporting.curves import Chart, Curve

# Okabe and Ito, Color Universal Design, 2008: told apart by colour-blind readers; without yellow,
# which vanishes on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4")
WIDTH, HEIGHT = 380, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 34


def colour(style: int) -> str:
    """Colour of a style."""
    return COLOURS[style % len(COLOURS)]


def swatch(style: int) -> str:
    """A piece of a line for the legend."""
    return (
        f'<svg class="swatch" viewBox="0 0 34 10" aria-hidden="true">{_line("M1 5H33", style)}'
        f"{_mark(17, 5, style)}</svg>"
    )


def draw(chart: Chart) -> str:
    """The chart, as wide as the page lets it be."""
    steps = [n for curve in chart.curves for n in curve.steps]
    x = _Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT, whole=True)
    ends = [v + s for c in chart.curves for v, s in zip(c.values, c.spread, strict=True)]
    ends += [v - s for c in chart.curves for v, s in zip(c.values, c.spread, strict=True)]
    ends += chart.levels.values()
    y = _Axis(min(ends), max(ends), HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *(_level(name, v, y) for name, v in chart.levels.items())]
    parts += [_band(curve, x, y) for curve in chart.curves if any(curve.spread)]
    parts += [_curve(curve, x, y) for curve in chart.curves]
    what = f"{chart.title} over steps: {', '.join(c.label for c in chart.curves)}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)}">'
        f"{''.join(parts)}</svg>"
    )


class _Axis:
    """From values to pixels, with round ticks."""

    def __init__(
        self, low: float, high: float, start: float, end: float, whole: bool = False
    ) -> None:
        if high == low:
            pad = abs(low) * 0.1 or 1.0
            low, high = low - pad, high + pad
        self.ticks = ticks(low, high, whole)
        self.low, self.high = min(low, self.ticks[0]), max(high, self.ticks[-1])
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, whole: bool = False, most: int = 6) -> list[float]:
    """Round numbers between two, at least one, at most ``most``; ``whole``: integers only."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = [power * factor for factor in (1, 2, 5, 10, 20, 50, 100)]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 1 <= last - first + 1 <= most and (not whole or step >= 1):
            return [n * step for n in range(first, last + 1)]
    return [low]


def _grid(x: _Axis, y: _Axis) -> list[str]:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y.ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{right}"/>')
        place = f'x="{LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end"'
        parts.append(f"<text {place}>{_number(tick)}</text>")
    for tick in x.ticks:
        place = f'x="{x(tick):.1f}" y="{floor + 14}" text-anchor="middle"'
        parts.append(f"<text {place}>{_number(tick)}</text>")
    parts.append(f'<path class="axis" d="M{LEFT} {floor}H{right}"/>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    return parts


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value + 0.0:.4g}"


def _level(name: str, value: float, y: _Axis) -> str:
    height = y(value)
    return (
        f'<path class="level" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>'
        f'<text class="note" x="{WIDTH - RIGHT}" y="{max(height - 4, TOP + 9):.1f}" '
        f'text-anchor="end">{escape(name)}</text>'
    )


def _band(curve: Curve, x: _Axis, y: _Axis) -> str:
    triples = list(zip(curve.steps, curve.values, curve.spread, strict=True))
    upper = [(x(n), y(value + spread)) for n, value, spread in triples]
    lower = [(x(n), y(value - spread)) for n, value, spread in reversed(triples)]
    return f'<path d="{_path([*upper, *lower])}Z" fill="{colour(curve.style)}" opacity=".16"/>'


def _curve(curve: Curve, x: _Axis, y: _Axis) -> str:
    points = [(x(n), y(value)) for n, value in zip(curve.steps, curve.values, strict=True)]
    every = max(1, len(points) // 6)
    marks = "".join(_mark(*points[i], curve.style) for i in range(0, len(points), every))
    title = f"<title>{escape(curve.label)}</title>"
    return f"<g>{title}{_line(_path(points), curve.style)}{marks}</g>"


def _line(path: str, style: int) -> str:
    dash = DASHES[style % len(DASHES)]
    return (
        f'<path d="{path}" fill="none" stroke="{colour(style)}" stroke-width="1.7"'
        + (f' stroke-dasharray="{dash}"' if dash else "")
        + "/>"
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _mark(a: float, b: float, style: int) -> str:
    shapes = (
        f"M{a - 2.8:.1f} {b:.1f}a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0-5.6 0",
        f"M{a - 2.6:.1f} {b - 2.6:.1f}h5.2v5.2h-5.2Z",
        f"M{a:.1f} {b - 3.4:.1f}l3.4 5.8h-6.8Z",
        f"M{a:.1f} {b - 3.6:.1f}l3.6 3.6l-3.6 3.6l-3.6-3.6Z",
    )
    return f'<path d="{shapes[style % len(shapes)]}" fill="{colour(style)}"/>'
