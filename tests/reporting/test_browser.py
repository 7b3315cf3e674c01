"""The report in a real browser: it renders, a click shows a run, nothing is fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import report
from tests.reporting.runs import config, smtc, write_run

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 390)  # a desktop, a phone


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: scripts/install_chromium.sh installs Debian's")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e .[dev]")
    # chromium refuses its sandbox to root
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder / f"a_seed{seed}", config(seed), [0.4 + 0.01 * i for i in range(12)])
        write_run(folder / f"b_seed{seed}", smtc(seed), [0.5 + 0.01 * i for i in range(12)])
    write_run(folder / "stopped", config(num_slots=7))
    out = folder / "report.html"
    assert report.main([str(folder), "-o", str(out)]) == 0
    return out


@pytest.mark.parametrize("width", WIDTHS)
def test_a_click_on_a_run_shows_its_details(browser: Any, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert page.get_by_text("not finished: stands at step 20").first.is_visible()

    details = page.locator("details.run", has_text="b_seed1")
    charts = details.locator("svg")
    assert not charts.first.is_visible()
    page.locator("#runs a", has_text="b_seed1").click()
    charts.first.wait_for(state="visible")
    assert details.evaluate("element => element.open")
    assert details.bounding_box()["y"] < 800, "scrolled to"
    details.locator("summary", has_text="12 videos").click()
    assert details.get_by_text("61.0").first.is_visible(), "the score of the last video"
    details.locator("summary", has_text="configuration").click()
    assert details.get_by_text("slotreel.groupers.smtc.SMTC").is_visible()

    shown = page.locator("img").evaluate_all("all => all.map(x => x.complete && x.naturalWidth)")
    assert len(shown) == 5 + 3, "one picture a run, one again for each variant"
    assert all(shown)
    outside = [url for url in requests if not url.startswith("data:")]
    assert outside == [page_file.as_uri()]
    assert complaints == []


def test_a_click_on_a_heading_sorts(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    seeds = page.locator("#runs > .wide tbody td:nth-child(3)")
    assert seeds.all_inner_texts() == ["0", "1", "0", "1", "0"]
    heading = page.locator("#runs > .wide thead th", has_text="seed")
    heading.click()
    assert seeds.all_inner_texts() == ["1", "1", "0", "0", "0"]
    heading.click()
    assert seeds.all_inner_texts() == ["0", "0", "0", "1", "1"]
