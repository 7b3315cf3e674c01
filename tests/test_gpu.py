"""What needs a CUDA device: the same run as on the CPU, and bf16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
