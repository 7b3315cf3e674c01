"""The workspace that compares runs, up to the object that wandb would save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import make_dashboard
from slotreel.errors import DataError
from tests.running import ROOT

LOGGED = [
    "step", "clips_seen", "train/loss", "train/loss/slot_contrast", "train/share/slot_contrast",
    "train/colour_rec_r2", "perf/clips_s", "val/birds/vos/jf", "val/birds/vos/j_recall",
    "val/shapes/discovery/fg_ari_video", "val/shapes/discovery/fg_ari_video/skill",
    "val/shapes/discovery/mbo_video", "health/shapes/grouper/place_bias",
    "health/shapes/decoder/place_bias", "health/shapes/grouper/undecided",
    "health/shapes/grouper/fg_ari_2_objects", "health/birds/grouper/undecided",
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(dict.fromkeys(LOGGED, 1)) + "\n")
    (tmp_path / "config.yaml").write_text("logger: {project: birds}\n")
    return tmp_path


def panels(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Kind and settings of the panels of each section, as they would be sent."""
    out = run / "dashboard.json"
    assert make_dashboard.main([str(run), "--json", str(out)]) == 0
    view = json.loads(out.read_text())
    assert view["project"] == "birds"
    assert view["spec"]["section"]["runSets"][0]["grouping"] == [
        {"section": "config", "name": "variant.value"}
    ]
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    return {
        section["name"]: [
            panel["config"] | {"kind": panel["viewType"]} for panel in section["panels"]
        ]
        for section in sections
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_seven_sections_of_what_was_logged(run: Path) -> None:
    found = panels(run)
    assert [name[0] for name in found] == list("1234567")
    assert all(found.values())
    board = found["1 Scoreboard"]
    assert [p["metrics"] for p in board if p["kind"] == "Bar Chart"] == [
        ["val/birds/vos/jf"],
        ["val/shapes/discovery/fg_ari_video"],
        ["val/shapes/discovery/mbo_video"],
        ["val/shapes/discovery/fg_ari_video/skill"],
        ["health/birds/grouper/undecided"],
    ]
    assert [p["groupBy"] for p in board if p["kind"] == "Bar Chart"] == ["variant.value"] * 5
    (scatter,) = [p for p in board if p["kind"] == "Scatter Plot"]
    assert scatter["xAxis"] == "summary:val/shapes/discovery/fg_ari_video"
    assert {p["xAxis"] for p in found["2 Curves"]} == {"clips_seen", "gpu_hours"}
    places = [p for p in found["3 Health"] if p["chartTitle"] == "shapes: place_bias"]
    assert places[0]["metrics"] == [
        "health/shapes/decoder/place_bias",
        "health/shapes/grouper/place_bias",
    ]
    assert {p["kind"] for p in found["5 Masks"]} == {"Media Browser"}
    assert "media/shapes/clip_07" in found["5 Masks"][1]["mediaKeys"]
    assert "Weave" in {p["kind"] for p in found["4 Where it fails"]}
    assert found["7 What mattered"][0]["diffOnly"] == "split"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_every_panel_shows_a_key_that_exists(run: Path) -> None:
    shown = [
        m for panels_of in panels(run).values() for p in panels_of for m in p.get("metrics", [])
    ]
    assert set(shown) <= set(LOGGED)


def test_what_is_missing_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_dashboard, "has_login", lambda: False)
    assert make_dashboard.main([str(run), "--entity", "me"]) == 1
    assert "wandb login" in capsys.readouterr().err
    assert make_dashboard.main([str(run / "nothing"), "--json", "x"]) == 1
    assert "expected a run directory" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_runs_without_scores_are_refused() -> None:
    with pytest.raises(DataError, match="validated"):
        make_dashboard.build(make_dashboard.Keys(["train/loss"]), "me", "p")


def test_the_page_names_what_the_script_builds() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text()
    for name in make_dashboard.HEALTH:
        assert f"`{name}`" in page
    for title in ("1 Scoreboard", "2 Curves", "3 Health", "4 Where it fails", "5 Masks",
                  "6 Optimisation and cost", "7 What mattered"):  # fmt: skip
        assert f"| {title} |" in page
