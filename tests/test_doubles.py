"""Methods to come fit: a two-view loss, a tokenizer with phases, an objective without slots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slotreel import evaluation, predicting
from slotreel.assemble import build_objective
from slotreel.errors import ConfigError
from slotreel.training import checkpoint
from tests import running

STEPS = ("trainer.num_steps=6", "trainer.log_every=1", "trainer.save_every=3", "trainer.keep=9")
DOUBLES = {
    "two_view": ("losses=[feature_rec,two_view]",),
    "tokenizer": ("losses=[feature_rec,token]", "tokenizer=toy", "optim=two_groups"),
    "pixel": ("model=pixel",),
    "teacher": ("losses=[feature_rec,teacher]", "model.ema=0.9"),
}


@pytest.mark.parametrize("name", DOUBLES)
def test_train_resume_eval_predict(name: str, tmp_path: Path) -> None:
    options = (*STEPS, *DOUBLES[name])
    run = running.train(tmp_path / "run", *options)
    stored = checkpoint.read(checkpoint.checkpoint_path(run, 6))["objective"]
    scores = json.loads((run / "scores.json").read_text())

    for path in (run / "checkpoints").glob("*.pt"):  # as if killed after step 3
        if path.name not in ("step_000000003.pt",):
            path.unlink()
    running.train(run, *options, f"resume={run}")
    again = checkpoint.read(checkpoint.checkpoint_path(run, 6))["objective"]
    assert all(torch.equal(stored[key], again[key]) for key in stored)

    cfg = running.composed("eval", f"checkpoint={run}", "trivial_rows=false")
    evaluation.eval(cfg)
    evaluated = json.loads(next((run / "eval").rglob("scores.json")).read_text())
    rows = [s["sets"]["moving_shapes"]["discovery"]["rows"][-1] for s in (scores, evaluated)]
    assert rows[0]["means"] == rows[1]["means"]

    frames = tmp_path / "my video (1)"
    write_frames(frames)
    output = tmp_path / "out"
    predicting.predict(
        running.composed("predict", f"checkpoint={run}", f"input={frames}", f"output={output}")
    )
    assert len(list(output.rglob("masks/*.png"))) == 3
    assert list(output.rglob("overlay.mp4"))


def write_frames(folder: Path) -> None:
    from slotreel.data.image_io import write_image
    from slotreel.data.sources.moving_shapes import MovingShapes

    folder.mkdir()
    clip = MovingShapes(level="easy", num_videos=1, split="validation").read(0, [0, 1, 2])
    for i, frame in enumerate(clip.video):
        write_image(folder / f"{i:05d}.png", frame)


@pytest.mark.parametrize(
    "debug", ["one_batch", "anomaly", pytest.param("profile", marks=pytest.mark.slow)]
)
def test_debug_overlays_run(debug: str, tmp_path: Path) -> None:
    steps = () if debug != "anomaly" else ("trainer.num_steps=2",)
    run = running.train(
        tmp_path / "run", f"debug={debug}", "logger=none", "trainer.num_workers=0",
        "trainer.batch_size=2", "trainer.trivial_rows=false", *steps,
        "dataset.validation.moving_shapes.data.num_videos=1", tiny=False,
    )  # fmt: skip
    assert (run / "scores.json").exists()
    assert (run / "profile.txt").exists() == (debug == "profile")
    assert not torch.is_anomaly_enabled() or debug == "anomaly"
    torch.autograd.set_detect_anomaly(False)


def test_the_tokenizer_is_frozen_when_its_phase_begins(tmp_path: Path) -> None:
    run = running.train(tmp_path / "run", *STEPS, "trainer.save_every=1", *DOUBLES["tokenizer"])
    colours = [
        checkpoint.read(checkpoint.checkpoint_path(run, step))["objective"][
            "model.tokenizer.colours"
        ]
        for step in (1, 3, 6)
    ]
    assert not torch.equal(colours[0], colours[1])
    assert torch.equal(colours[1], colours[2])


def test_a_loss_without_its_teacher_is_refused() -> None:
    cfg = running.composed("train", *running.TINY, "losses=[feature_rec,teacher]")
    with pytest.raises(ConfigError, match=r"model\.ema"):
        build_objective(cfg)


def test_a_loss_without_its_tokenizer_is_refused() -> None:
    cfg = running.composed("train", *running.TINY, "losses=[feature_rec,token]")
    with pytest.raises(ConfigError, match="tokenizer=dvae"):
        build_objective(cfg)
