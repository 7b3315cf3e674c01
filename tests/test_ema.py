"""The averaged copy: what follows, what stays, and what that allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slotreel.assemble import build_objective
from slotreel.errors import ConfigError
from slotreel.objective import SlotObjective
from slotreel.training import checkpoint
from slotreel.types import Batch, LossOutput, Progress
from tests import running

SMALL = ("image_size=32", "clip_length=2", "slot_dim=16", "num_slots=3", "trainer.batch_size=2")
TRAINED = ("backbone=small_cnn", "backbone.strides=[2,2,1,1]")
KEEP = "model.ema_keeps=[backbone.*]"


def objective(*typed: str) -> SlotObjective:
    built = build_objective(running.composed("train", *SMALL, *typed))
    assert isinstance(built, SlotObjective)
    return built


def step(built: SlotObjective) -> LossOutput:
    batch = Batch((torch.rand(2, 2, 3, 32, 32),), torch.arange(2).expand(2, 2), torch.arange(2))
    return built(batch, Progress(0, 1))


def test_kept_parts_stay_and_all_others_follow() -> None:
    built = objective(*TRAINED, "losses=pixel_rec", "model.ema=0.75", KEEP)
    assert built.ema is not None
    before = {name: value.clone() for name, value in built.ema.state_dict().items()}
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.add_(1)
    built.after_step(Progress(0, 1))
    for name, value in built.ema.state_dict().items():
        moved = 0.0 if name.startswith("backbone.") else 0.25
        torch.testing.assert_close(value, before[name] + moved)


def test_the_teacher_answers_with_its_own_heads() -> None:
    built = objective("grouper=smtc", "losses=instance_consistency", "model.ema=0.9")
    assert built.ema is not None
    seen: list[str] = []
    for name, model in (("student", built.model), ("teacher", built.ema)):
        head = model.heads["object"]
        assert [layer.weight.shape for layer in head if hasattr(layer, "weight")] == [
            (32, 16), (16, 32)
        ]  # fmt: skip
        head.register_forward_hook(lambda *_, name=name: seen.append(name))
    step(built)
    assert sorted(seen) == ["student", "teacher"]


def test_globs_that_mean_nothing_are_refused() -> None:
    taught = (*TRAINED, "losses=pixel_rec", "model.ema=0.9")
    with pytest.raises(ConfigError, match=r"ema_keeps needs an EMA copy; type model\.ema=0\.999"):
        objective(*TRAINED, "losses=pixel_rec", KEEP)
    with pytest.raises(ConfigError, match=r"nothing of the model .* did you mean: backbone\.\*"):
        objective(*taught, "model.ema_keeps=[backbon.*]")
    with pytest.raises(ConfigError, match="nothing of the model matches it"):
        objective("backbone=patches", "model.ema=0.9", KEEP)  # it has no parameters to keep


def test_a_kept_teacher_backbone_makes_its_features_targets() -> None:
    taught = (*TRAINED, "losses=semantic_transport", "model.ema=0.9")
    with pytest.raises(ConfigError, match=r"or model\.ema_keeps=\[backbone\.\*\]"):
        objective(*taught)
    with pytest.raises(ConfigError, match="features of a backbone that is being trained"):
        objective(*taught, "model.ema_keeps=[backbone.*.weight]")  # biases would follow
    assert step(objective(*taught, KEEP)).total.isfinite()
    # feature_rec compares with the student's own features: no teacher helps.
    with pytest.raises(ConfigError, match=r"losses\.feature_rec .* frozen one\), or losses="):
        objective(*TRAINED, "losses=feature_rec", "model.ema=0.9", KEEP)


def test_a_grouper_without_the_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"instance, semantic, .* none; type grouper=smtc"):
        objective("losses=instance_consistency", "model.ema=0.9")


def test_losses_that_need_a_teacher_say_so() -> None:
    for losses in ("semantic_transport", "instance_consistency", "smtc"):
        with pytest.raises(ConfigError, match=r"type model\.ema=0\.996"):
            objective(f"losses={losses}", "grouper=smtc")


@pytest.mark.slow  # two trainings of a few steps
def test_kept_parts_stay_in_a_run_and_through_a_resume(tmp_path: Path) -> None:
    options = (
        "backbone=small_cnn", "backbone.strides=[2,2,1,1]", "grouper=smtc",
        "losses=smtc", "model.ema=0.5", KEEP, "trainer.num_steps=4", "trainer.save_every=2",
        "trainer.log_every=1", "trainer.keep=9",
    )  # fmt: skip
    run = running.train(tmp_path / "run", *options)
    states = [checkpoint.read(checkpoint.checkpoint_path(run, n))["objective"] for n in (2, 4)]
    checkpoint.checkpoint_path(run, 4).unlink()  # as if killed after step 2
    running.train(run, *options, f"resume={run}")
    again = checkpoint.read(checkpoint.checkpoint_path(run, 4))["objective"]
    assert all(torch.equal(states[1][key], again[key]) for key in again)
    copied = [key for key in again if key.startswith("ema.backbone.")]
    assert copied
    for key in copied:
        assert torch.equal(states[0][key], again[key])
    changed = [not torch.equal(again[k], again["model." + k.removeprefix("ema.")]) for k in copied]
    assert any(changed)
    row = running.metrics(run)[4]
    terms = ("slot_divergence", "semantic_transport", "instance_consistency")
    assert all(f"train/loss/{term}" in row for term in terms)
    for name in ("valid_instances", "gate_open", "semantics_alive"):
        assert 0 <= row[f"train/{name}"] <= 1
