"""Slot health in a run: where it is written, what it warns of, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slotreel import evaluation
from slotreel.training import checkpoint
from tests import running

FEW = ("trainer.num_steps=6", "trainer.eval_every=2", "trainer.log_every=0")
MONITOR = "trainer.monitor=identity_margin"
SCORED = "health/moving_shapes/grouper"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return running.train(tmp_path_factory.mktemp("health") / "run", *FEW, MONITOR)


def test_every_evaluation_is_logged(watched: Path) -> None:
    rows = running.metrics(watched)
    assert {2, 4, 6} <= rows.keys()
    for step in (2, 4, 6):
        for source in ("grouper", "decoder"):
            for name in ("effective_slots", "slot_cosine", "agreement", "slots_per_object"):
                assert f"health/moving_shapes/{source}/{name}" in rows[step]
    stored = json.loads((watched / "scores.json").read_text())
    health = stored["sets"]["moving_shapes"]["discovery"]["health"]
    assert health["grouper"]["effective_slots"] == rows[6][f"{SCORED}/effective_slots"]
    line = f"health (grouper): {health['grouper']['effective_slots']:.1f} of 6 slots in use"
    assert line in (watched / "scores.md").read_text()


def test_two_levels_have_no_agreement_of_slots(tmp_path: Path) -> None:
    """The decoder of grouper=smtc has the semantic slots, its masks all instances."""
    directory = running.train(
        tmp_path / "run", "trainer.num_steps=1", "trainer.log_every=0", "grouper=smtc"
    )
    row = running.metrics(directory)[1]
    assert f"{SCORED}/undecided" in row
    assert "health/moving_shapes/decoder/undecided" in row
    assert not [key for key in row if key.endswith("agreement")]


def test_looking_changes_nothing(watched: Path, tmp_path: Path) -> None:
    blind = running.train(tmp_path / "run", *FEW, "trainer.health_videos=0")
    one, other = (
        checkpoint.read(checkpoint.checkpoint_path(run, 6))["objective"] for run in (watched, blind)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not any(key.startswith("health/") for key in running.metrics(blind)[6])
    assert "health (" not in (blind / "scores.md").read_text()


def test_symptoms_are_told_when_they_appear_and_at_the_end(watched: Path) -> None:
    lines = (watched / "train.log").read_text().splitlines()
    alike = [line for line in lines if "#all-slots-are-alike" in line]
    assert len(alike) == 2  # at step 2 and at the end, not at step 4
    assert "WARNING" in alike[0]
    assert "moving_shapes, masks of the grouper: all slots are alike (" in alike[0]


def test_a_number_without_labels_may_choose_the_best_checkpoint(watched: Path) -> None:
    rows = running.metrics(watched)
    values = {step: rows[step][f"{SCORED}/identity_margin"] for step in (2, 4, 6)}
    best = checkpoint.read(watched / "checkpoints" / "best.pt")["best"]
    assert best == [max(values.values()), max(values, key=lambda step: values[step])]


def test_a_finished_run_says_it_again(watched: Path) -> None:
    before = (watched / "scores.md").read_text()
    running.train(watched, *FEW, MONITOR, f"resume={watched}")
    assert (watched / "scores.md").read_text() == before


def test_eval_says_it_too(watched: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def scored(*overrides: str) -> tuple[str, dict[str, dict[str, float]]]:
        typed = ["logger=none", "trivial_rows=false", f"output={tmp_path}", *overrides]
        evaluation.eval(running.composed("eval", *typed, f"paths.runs={tmp_path}"))
        stored = json.loads((tmp_path / "scores.json").read_text())
        health = stored["sets"]["moving_shapes"]["discovery"]["health"]
        return (tmp_path / "scores.md").read_text(), health

    text, health = scored(f"checkpoint={watched}")
    logged = running.metrics(watched)[6]
    for name, value in health["grouper"].items():
        assert value == pytest.approx(logged[f"{SCORED}/{name}"], abs=1e-6), name
    assert "health (grouper): " in text
    assert "#all-slots-are-alike" in caplog.text
    caplog.clear()
    small = ["validate=moving_shapes", "validate.moving_shapes.data.num_videos=2", "image_size=32"]
    text, health = scored("model=blocks", *small)
    assert "masks follow place (place bias 1.00)" in text
    assert "troubleshooting" not in caplog.text  # blocks are blocks
    assert scored("model=blocks", *small, "health_videos=0")[1] == {}
