"""The figure: which clips, which colours, and the whole way from trained runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import figure as script
from scripts import report
from slotreel.colours import COLOURS
from slotreel.errors import ConfigError
from slotreel.protocols.protocol import LabelledClip
from slotreel.reporting.figure import SCALE, choose, compose, save
from slotreel.reporting.page import collect
from tests import running
from tests.reporting.runs import config, records, smtc, write_run

OBJECTS = np.zeros((4, 48, 48), dtype=np.uint8)
OBJECTS[:, 8:40, 2:22], OBJECTS[:, 8:40, 26:46] = 1, 2
VIDEO = np.full((4, 48, 48, 3), 128, dtype=np.uint8)


def test_clips_are_chosen_by_the_mean_score_of_methods(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config(), [0.1, 0.5, 0.9, 0.3, 0.6])
    write_run(tmp_path / "b", smtc(), [0.9, 0.5, 0.5, 0.2, 0.6])
    (comparison,) = collect(records(tmp_path)).comparisons
    chosen = choose(comparison, "fg_ari_video", [])
    assert [choice.clip for choice in chosen] == ["v2", "v1", "v3"]
    assert chosen[1].caption == "v1 (median: FG-ARI 50.0, mean of the methods)"
    assert [choice.clip for choice in choose(comparison, "fg_ari_video", ["v4"])] == ["v4"]
    with pytest.raises(ConfigError, match="no such video"):
        choose(comparison, "fg_ari_video", ["v7"])
    with pytest.raises(ConfigError, match="--metric jf was not measured"):
        choose(comparison, "jf", [])


def test_one_object_has_one_colour_in_every_row(tmp_path: Path) -> None:
    (comparison,) = collect(records(write_run(tmp_path / "a", config(), [0.5] * 6))).comparisons
    choices = choose(comparison, "fg_ari_video", ["v0"])
    segmented = {
        name: {"v0": LabelledClip(VIDEO, OBJECTS, np.asarray(slots, np.uint8)[OBJECTS])}
        for name, slots in {"one": [2, 3, 1], "other": [1, 5, 4]}.items()
    }
    picture = np.asarray(compose(choices, segmented, [0, 3], 6)).astype(int)
    greens = np.abs(picture - COLOURS[2]).sum(-1) < 30  # outlines of the second object
    rows = np.flatnonzero(greens.any(axis=1))
    cell = SCALE * 96
    for row in range(1, 4):  # truth and two methods, below the video
        inside = [y for y in rows if (y - rows[0]) // (cell + 3 * SCALE) == row - 1]
        columns = [np.flatnonzero(greens[y]) for y in inside]
        assert inside, f"row {row} shows the second object"
        assert {len(c) > 0 for c in columns} == {True}
        assert np.ptp(np.concatenate(columns)) == np.ptp(np.flatnonzero(greens.any(axis=0)))
    with pytest.raises(ConfigError, match="v0 has frames 0 to 3"):
        compose(choices, segmented, [4], 6)
    png, pdf = save(Image.fromarray(picture.astype(np.uint8)), tmp_path / "deep" / "figure")
    assert Image.open(png).size == picture.shape[1::-1]
    assert pdf.read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_from_trained_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for grouper in ("slot_attention", "cross_attention"):
        running.train(tmp_path / grouper, f"grouper={grouper}", "trainer.trivial_rows=true")
    runs = str(tmp_path)
    assert report.main([runs, "-o", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "k-means on colours" in page
    assert "grouper=cross_attention" in page
    assert "What is wrong" not in page
    assert script.main([runs, "-o", str(tmp_path / "figure"), "--frames", "0", "5"]) == 0
    assert (tmp_path / "figure.pdf").is_file()
    capsys.readouterr()
    assert script.main([runs, "--set", "davis2017"]) == 1
    assert "nothing was scored on it" in capsys.readouterr().err
