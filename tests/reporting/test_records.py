"""Runs are found, read with patience, and grouped by everything but the seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slotreel.errors import ConfigError, DataError
from slotreel.files import write_json, write_text
from slotreel.reporting.finding import find_runs
from slotreel.reporting.page import collect, render
from slotreel.reporting.records import read_record
from slotreel.reporting.variants import differing, group_runs, pick, settings_of
from slotreel.scores import Comparison, Row, scores_json
from tests.reporting.runs import config, records, smtc, table, write_run


def test_runs_are_found_once_and_in_order(sweep: Path) -> None:
    (sweep / "latest").symlink_to(sweep / "0_a_seed0")
    write_text(sweep / "trivial" / "blocks" / "scores.json", "{}")
    names = ["0_a_seed0", "1_a_seed1", "2_b_seed0", "3_b_seed1"]
    assert [p.name for p in find_runs([sweep])] == names
    assert [p.name for p in find_runs([sweep / "latest", f"{sweep}/*_b_*", sweep])] == [
        "latest", "2_b_seed0", "3_b_seed1", "1_a_seed1",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no run in"):
        find_runs([sweep / "nothing"])


def test_jobs_of_a_sweep_are_in_order_of_their_numbers_and_none_is_lost(tmp_path: Path) -> None:
    write_text(tmp_path / "multirun.yaml", "")
    for number in (2, 10):
        write_run(tmp_path / f"{number}_a", config(number))
    (tmp_path / "11_died").mkdir()
    (tmp_path / "code").mkdir()
    assert [p.name for p in find_runs([tmp_path])] == ["2_a", "10_a", "11_died"]
    assert "no config.yaml" in read_record(tmp_path / "11_died").problems[0]
    (tmp_path / "multirun.yaml").unlink()
    write_json(tmp_path / "sweep.json", {"points": {"10_a": {}, "never_began": {}}})
    assert [p.name for p in find_runs([tmp_path])] == ["10_a", "never_began", "2_a"]
    assert "no metrics.jsonl" in read_record(tmp_path / "never_began").problems[1]


def test_what_is_wrong_with_a_run_is_said(sweep: Path) -> None:
    cut, stopped, stale = (sweep / name for name in ("0_a_seed0", "1_a_seed1", "2_b_seed0"))
    (cut / "scores.json").write_text((cut / "scores.json").read_text()[:1000])
    (stopped / "scores.json").unlink()
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "train/lo')
    with (stale / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/loss": 0.5}\n')
    write_text(stopped / "train.log", "2026-11-21 20:00:00,1 ERROR slotreel.main: out of memory\n")
    (sweep / "3_b_seed1" / "config.yaml").write_text("a: [")
    (sweep / "3_b_seed1" / "media" / "shapes_00.png").write_bytes(b"no picture")
    found = records(sweep)
    page = render(collect(found))
    said = [" ".join(record.problems) for record in found]
    assert "scores.json cannot be read" in said[0]
    assert "line 3" in said[1]
    assert "not finished: stands at step 20 of 20" in said[1]
    assert "its log says: out of memory" in said[1]
    assert "scores.json is of step 20, training went on to 40" in said[2]
    assert "config.yaml cannot be read" in said[3]
    assert "media/shapes_00.png cannot be read" in said[3]
    for record in found:
        assert page.count(record.name) >= 3, "named among problems, runs and details"


def test_a_later_row_of_a_step_wins(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config(), steps=(10, 20, 10))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "train/loss": 7.0}\n')
    history = read_record(run).history
    assert list(history) == [10, 20]
    assert history[10]["train/loss"] == 7.0
    assert history[10]["perf/clips_s"] == 10.0


def test_evaluations_of_the_last_state_are_columns_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", config(), [0.5] * 8)
    for step, name in ((20, "vos"), (10, "other")):
        row = Row("checkpoint", "model", table([0.7] * 8, name), step)
        content = scores_json([Comparison([row], 6, "grouper")], step=step)
        write_json(run / "eval" / name / "scores.json", json.loads(json.dumps(content)))
    record = read_record(run)
    assert [column.protocol for column in record.results] == ["discovery", "vos"]
    assert "eval/other/scores.json is of step 10" in record.problems[0]


def test_runs_that_differ_in_the_seed_only_are_one_variant(sweep: Path) -> None:
    first, second = group_runs(records(sweep))
    assert first.label == "grouper=slot_attention"
    assert second.label == "grouper=smtc"
    assert [r.config["seed"] for r in second.records] == [0, 1]
    assert list(first.differences) == ["grouper._target_"]
    assert pick([first, second], None) is first
    assert pick([first, second], "smtc") is second
    with pytest.raises(ConfigError, match="names 2 variants"):
        pick([first, second], "grouper")


def test_the_same_seed_twice_counts_once(sweep: Path) -> None:
    write_run(sweep / "4_a_again", config(0))
    write_run(sweep / "5_a_again", config(0), [0.5] * 20)
    found = records(sweep)
    first, _ = group_runs(found)
    assert [r.name for r in first.records] == ["0_a_seed0", "1_a_seed1"]
    assert "only that one counts" in found[4].problems[-1]
    assert "only that one counts" in found[5].problems[-1]


def test_arguments_of_another_class_are_no_difference() -> None:
    other = smtc()
    slower = config(grouper={**config()["grouper"], "num_iters": 3})
    flat = [settings_of(c) for c in (config(), other, slower, config(num_slots=7))]
    assert differing(flat) == ["num_slots", "grouper._target_", "grouper.num_iters"]
    assert differing(flat[:2]) == ["grouper._target_"]


def test_where_data_lies_is_no_difference() -> None:
    elsewhere = config(
        dataset={"source": {"root": "/there/shapes"}}, paths={"runs": "r", "data": "/there"}
    )
    assert settings_of(elsewhere) == settings_of(config())
    assert settings_of(config())["dataset.source.root"] == "DATA/shapes"
