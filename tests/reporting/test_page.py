"""Curves, charts and the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotreel.reporting.curves import MOST_POINTS, chart_of, charts, thin
from slotreel.reporting.page import collect, render
from slotreel.reporting.records import read_record
from slotreel.reporting.svg import draw, ticks
from tests.reporting.runs import PREFIX, config, records, write_run


def test_curves_stop_where_a_seed_stops(tmp_path: Path) -> None:
    runs = [
        read_record(write_run(tmp_path / str(n), config(n), steps=steps))
        for n, steps in enumerate([(10, 20, 30), (10, 20)])
    ]
    chart = chart_of("title", f"{PREFIX}/fg_ari_video", [("a", 0, runs)])
    (curve,) = chart.curves
    assert curve.steps == [10, 20]
    assert curve.values == pytest.approx([0.6, 0.7])
    assert curve.spread == pytest.approx([0.5**0.5] * 2)
    ElementTree.fromstring(draw(chart))


def test_unfinished_runs_share_a_chart_only_if_their_settings_say_so(sweep: Path) -> None:
    write_run(sweep / "5_c", config(num_slots=7))
    write_run(sweep / "6_d", config(num_slots=8, image_size=128))
    contents = collect(records(sweep))
    main, _ = charts(contents.variants, contents.comparisons, ["shapes/discovery"])
    assert [chart.title for chart in main] == ["train/loss", "shapes/discovery FG-ARI"]
    assert [len(chart.curves) for chart in main] == [4, 3]
    assert main[1].levels == {"best row without training": pytest.approx(0.3)}


@given(st.lists(st.integers(0, 10**6), unique=True).map(sorted))
def test_thinning_keeps_the_ends(steps: list[int]) -> None:
    kept = thin(steps)
    assert len(kept) == min(len(steps), MOST_POINTS)
    assert kept[:1] + kept[-1:] == steps[:1] + steps[-1:]
    assert kept == sorted(set(kept))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 6
    assert all(low - 0.01 * width <= tick <= low + 1.01 * width for tick in found)


def test_the_page_asks_for_nothing_and_shows_names_as_they_are(sweep: Path) -> None:
    write_run(sweep / "7_odd", config(3, name="<b>", num_slots="<script>alert(1)</script>"))
    page = render(collect(records(sweep)))
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!#|data:)[^"' >]""", page.split("<script>")[0])
    assert "url(" not in page
    assert "@import" not in page
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "effective slots" in page
    assert page.count('id="run-') == 5
