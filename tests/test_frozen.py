"""Checkpoints without frozen weights: what is left out, what comes back, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from slotreel import frozen
from slotreel.assemble import build_objective
from slotreel.backbones import tiny_vit
from slotreel.composing import compose_config
from slotreel.errors import CheckpointError
from slotreel.interfaces import Objective
from slotreel.loading import load_checkpoint
from slotreel.training import checkpoint
from slotreel.training.exported import write_exported
from tests import running

VIT = ("backbone=tiny_vit", "losses=ss_contrastive", "model.ema=0.9")
TWO = ("trainer.num_steps=2", "trainer.save_every=1", "trainer.eval_every=2")
PREFIXES = {"model.backbone", "ema.backbone"}


def build(*overrides: str) -> Objective:
    return build_objective(running.composed("train", *running.TINY, *VIT, *overrides))


def equal(a: Objective, b: Objective) -> bool:
    old, new = a.state_dict(), b.state_dict()
    return old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)


def content(objective: Objective, full: bool = False) -> dict[str, Any]:
    state, references = frozen.split(objective, full)
    return {"objective": state, "frozen": references}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return running.train(tmp_path_factory.mktemp("frozen") / "run", *VIT, *TWO)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The named weights cannot be had."""
    monkeypatch.setattr(tiny_vit, "shipped_weights", lambda: Path("/nowhere/tiny_vit.safetensors"))


def test_frozen_weights_with_an_origin_are_left_out_and_come_back() -> None:
    trained = build()
    state, references = frozen.split(trained)
    assert set(references) == PREFIXES  # the averaged copy holds them a second time
    assert {r["origin"] for r in references.values()} == {"package:tiny_vit"}
    assert len({r["sha256"] for r in references.values()}) == 1
    assert not any(".backbone." in name for name in state)
    other = build("seed=5")
    assert not equal(trained, other)
    checkpoint.load_objective(other, content(trained), "x")
    assert equal(trained, other)
    assert set(frozen.split(other)[1]) == PREFIXES


@pytest.mark.parametrize("knob", ["backbone.weights=random", "backbone.frozen=false", "full"])
def test_everything_else_is_stored(knob: str) -> None:
    typed = ["losses=[pixel_rec]"] if knob.endswith("false") else []
    trained = build(*typed, *([knob] if "=" in knob else []))
    state, references = frozen.split(trained, full=knob == "full")
    assert not references
    assert state.keys() == trained.state_dict().keys()


def full_checkpoint(path: Path) -> tuple[DictConfig, Objective]:
    """Write one that holds everything; returns the model in it."""
    cfg = compose_config("train", [*running.TINY, *VIT])
    trained = build_objective(cfg)
    whole = {**content(trained, full=True), "step": 3, "config": OmegaConf.to_yaml(cfg)}
    checkpoint.save_atomic(path, whole)
    return cfg, trained


def test_a_full_checkpoint_is_loaded_where_weights_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, trained = full_checkpoint(tmp_path / "full.pt")
    go_offline(monkeypatch)
    with pytest.raises(CheckpointError, match="shipped weights"):
        build_objective(cfg)
    assert equal(load_checkpoint(tmp_path / "full.pt").objective, trained)


@pytest.mark.slow
def test_training_goes_on_from_a_full_checkpoint_where_weights_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_checkpoint(tmp_path / "full.pt")
    go_offline(monkeypatch)
    run = running.train(tmp_path / "run", *VIT, *TWO, f"init_from={tmp_path / 'full.pt'}")
    checkpoint.checkpoint_path(run, 2).unlink()
    running.train(run, f"resume={run}", tiny=False)
    assert checkpoint.find(run)[1]["step"] == 2


def test_weights_that_cannot_be_had_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_offline(monkeypatch)
    with pytest.raises(CheckpointError, match=r"package:tiny_vit.*cannot be had.*--full"):
        load_checkpoint(run)


def test_other_weights_of_the_same_origin_are_refused() -> None:
    trained, other = build(), build()
    with torch.no_grad():
        other.model.backbone.norm.bias[0] += 1e-6
    with pytest.raises(CheckpointError, match=r"run: .*model\.backbone.*package:tiny_vit.*--full"):
        checkpoint.load_objective(other, content(trained), "run:")
    blank = build("backbone.weights=random")
    with pytest.raises(CheckpointError, match=r"this model has weights without an origin"):
        checkpoint.load_objective(blank, content(trained), "run:")


def test_a_backbone_that_a_checkpoint_changed_is_stored_from_then_on() -> None:
    """Weights of another place under the name of this one would never be found again."""
    random, shipped = build("backbone.weights=random"), build()
    checkpoint.load_objective(shipped, content(random), "x")
    assert equal(shipped, random)
    state, references = frozen.split(shipped)
    assert not references
    assert state.keys() == shipped.state_dict().keys()


def test_the_digest_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.arange(6.0), "b": torch.tensor(1)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].view(2, 3)},
        {**base, "a": base["a"].int()},
        {**base, "b": torch.tensor(2)},
    ]
    digests = [frozen.digest(tensors) for tensors in (base, *others)]
    assert len(set(digests)) == 5
    reordered = {"b": base["b"], "a": torch.arange(12.0)[:6]}
    assert frozen.digest(reordered) == digests[0]


def test_runs_leave_them_out_and_go_on(run: Path, tmp_path: Path) -> None:
    first = checkpoint.read(checkpoint.checkpoint_path(run, 1))
    assert set(first["frozen"]) == PREFIXES
    assert not any(".backbone." in name for name in first["objective"])
    assert set(checkpoint.read(run / "checkpoints" / "best.pt")["frozen"]) == PREFIXES
    whole = load_checkpoint(run).objective
    again = tmp_path / "again"  # as if it had stopped after its first step
    shutil.copytree(run, again)
    checkpoint.checkpoint_path(again, 2).unlink()
    running.train(again, f"resume={again}", tiny=False)
    assert equal(load_checkpoint(again).objective, whole)
    write_exported(tmp_path / "out", checkpoint.find(run)[1])
    assert equal(load_checkpoint(tmp_path / "out").objective, whole)
