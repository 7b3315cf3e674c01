"""What needs a CUDA device: the same run as on the CPU, and bf16."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slotreel import evaluation
from tests import running

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
STEPS = ("trainer.num_steps=5", "trainer.log_every=1")


def losses(directory: Path, *overrides: str) -> list[float]:
    rows = running.metrics(running.train(directory, *STEPS, *overrides))
    return [rows[step]["train/loss"] for step in range(1, 6)]


def test_the_gpu_trains_like_the_cpu(tmp_path: Path) -> None:
    cpu = losses(tmp_path / "cpu", "trainer.device=cpu")
    gpu = losses(tmp_path / "gpu", "trainer.device=cuda")
    assert gpu == pytest.approx(cpu, rel=1e-3)


def test_bf16_stays_near_fp32(tmp_path: Path) -> None:
    exact = losses(tmp_path / "fp32", "trainer.device=cuda")
    short = losses(tmp_path / "bf16", "trainer.device=cuda", "trainer.precision=bf16")
    assert short == pytest.approx(exact, rel=0.05)
    assert "perf/peak_gb" in running.metrics(tmp_path / "bf16")[5]


def test_scores_do_not_depend_on_the_device(tmp_path: Path) -> None:
    run = running.train(tmp_path / "run", *STEPS)
    rows = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / device
        command = (
            f"checkpoint={run}", f"device={device}", f"output={output}", "logger=none",
            "trivial_rows=false", "protocol=vos",
        )  # fmt: skip
        evaluation.eval(running.composed("eval", *command, directory=tmp_path))
        content = json.loads((output / "scores.json").read_text())
        (rows[device],) = content["sets"]["moving_shapes"]["vos"]["rows"]
    assert rows["cuda"]["means"] == pytest.approx(rows["cpu"]["means"], abs=0.02)
