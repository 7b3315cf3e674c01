"""The benchmark's own check: slotreel and the plain implementations give the same values."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("cv2")
TINY = "--size 40 56 --frames 2 --proposals 9 --clips 2 3 24 20 --repeats 2".split()


@pytest.fixture
def script(benchmark):
    return benchmark("benchmark_metrics")


def test_all_ways_agree_and_are_written(script, tmp_path, capsys) -> None:
    out = tmp_path / "rows.json"
    assert script.main([*TINY, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    ways = [(row["case"].split(",")[0], row["way"]) for row in result["rows"]]
    assert ways == [("J&F", "slotreel"), ("J&F", "OpenCV, per pair")] * 3 + [
        ("ARI and mBO", way)
        for way in (
            "slotreel",
            "np.bincount only",
            "joint + bincount",
            "one-hot, once",
            "one-hot, each",
        )
    ]
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in result["rows"])
    assert {"date", "cpu", "torch", "opencv"} <= result["machine"].keys()
    printed = capsys.readouterr().out
    assert "20 labels x 5 objects, ms per frame: largest difference 0.0e+00" in printed


def test_a_wrong_value_fails_the_script(script, monkeypatch, capsys) -> None:
    right = script.matched_scores
    monkeypatch.setattr(script, "matched_scores", lambda *x: [y + 1e-5 for y in right(*x)])
    assert script.main(TINY) == 1
    assert "values differ by 1.0e-05" in capsys.readouterr().err


def test_nan_equals_only_nan(script) -> None:
    from benchmarking import difference

    one, nan = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert difference(nan, nan) == 0
    assert difference(one, nan) == np.inf
    assert difference(one, one + 0.5) == 0.5
