"""The benchmark's own check: slotreel and the plain forms of the losses give the same values."""

from __future__ import annotations

import json

import pytest

TINY = "--shape 2 3 3 4 10 8 --repeats 2 --clock cpu".split()


@pytest.fixture
def script(benchmark):
    return benchmark("benchmark_losses")


def test_all_ways_agree_and_are_written(script, tmp_path, capsys) -> None:
    out = tmp_path / "rows.json"
    assert script.main([*TINY, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    ways = [(row["case"].split(",")[0], row["way"]) for row in result["rows"]]
    assert ways == [
        ("semantic_transport", "slotreel"),
        ("semantic_transport", "pair by pair"),
        ("instance_consistency", "slotreel"),
        ("instance_consistency", "solver per problem"),
        ("instance_consistency", "problem by problem"),
        ("54 assignments of 4", "slotreel"),
        ("54 assignments of 4", "solver per problem"),
        ("54 assignments of 8", "slotreel"),
        ("54 assignments of 8", "solver per problem"),
    ]
    assert result["clock"] == "cpu"
    assert "assignments of 8, ms: largest difference 0.0e+00" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["value", "gradient"])
def test_a_wrong_value_or_gradient_fails_the_script(script, monkeypatch, capsys, wrong) -> None:
    right = script.pair_loop_transport

    def other(student, *rest):
        value = right(student, *rest)
        more = 1e-3 * student[0, 0, 0, 0]
        return value + (more.detach() if wrong == "value" else more - more.detach())

    monkeypatch.setattr(script, "pair_loop_transport", other)
    assert script.main(TINY) == 1
    assert "values differ by" in capsys.readouterr().err
