"""Two processes equal one at the same global batch, and both stop at the same step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slotreel.training import checkpoint
from tests import running


def torchrun(directory: Path, *overrides: str, processes: int = 2) -> None:
    script = running.script(directory)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}",
         "--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0",
         str(script), str(directory), *overrides],
        capture_output=True, text=True, timeout=300, cwd=running.ROOT,
        env=running.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


STEPS = ("trainer.num_steps=4", "trainer.log_every=1", "trainer.save_every=0")


def last(directory: Path) -> dict[str, torch.Tensor]:
    content = checkpoint.find(directory)[1]
    assert content["step"] == 4
    return content["objective"]


@pytest.mark.slow  # half a minute each: every process imports torch
@pytest.mark.parametrize(
    "options",
    [
        ("losses=ss_contrastive", "initializer=gaussian", "optim=sgd"),
        ("losses=[feature_rec,token]", "tokenizer=toy", "optim=two_groups"),
        ("losses=smtc", "grouper=smtc", "model.ema=0.9", "optim=sgd"),
        (
            "losses=pixel_rec",
            "backbone=tiny_vit",
            "backbone.frozen=false",
            "backbone.frozen_until=2",
            "optim=sgd",
        ),
    ],
    ids=[
        "gathered-contrast-and-noise",
        "phases",
        "teacher-and-counted-instances",
        "backbone-trained-from-step-2",
    ],
)
def test_two_processes_equal_one(tmp_path: Path, options: tuple[str, ...]) -> None:
    one = running.train(tmp_path / "one", *STEPS, *options)
    torchrun(tmp_path / "two", *STEPS, *options)
    a, b = last(tmp_path / "one"), last(tmp_path / "two")
    for name in a:
        assert torch.allclose(a[name], b[name], atol=2e-5), name
    rows = [running.metrics(d) for d in (one, tmp_path / "two")]
    assert rows[0][1]["train/loss"] == pytest.approx(rows[1][1]["train/loss"], rel=1e-5)


@pytest.mark.slow
def test_scores_are_exactly_those_of_one_process(tmp_path: Path) -> None:
    """Weights that do not move, three videos on two ranks: every score to the last bit."""
    still = ("optim.groups.all.lr=0", "trainer.num_steps=1", "trainer.save_every=0")
    videos = "dataset.validation.moving_shapes.data.num_videos=3"
    for processes, name in ((1, "one"), (2, "two")):
        torchrun(tmp_path / name, *still, videos, processes=processes)
    one, two = (
        {key: value for key, value in running.metrics(tmp_path / name)[1].items() if "val/" in key}
        for name in ("one", "two")
    )
    assert one["val/moving_shapes/discovery/fg_ari_video"] > 0
    assert one == two
