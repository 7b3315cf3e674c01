"""What a run cost: time, memory, parameters."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from slotreel.runtime.memory import peak_bytes


def spent(objective: nn.Module, device: torch.device, started: float) -> dict[str, Any]:
    """Facts for scores.json; time and memory are those of this process.

    Args:
        objective: model and losses.
        device: where they are.
        started: ``time.perf_counter()`` at the start.

    Returns:
        ``wall_minutes``, ``cpu_minutes``, ``peak_gb`` (memory of the GPU, without one of the
        process, 10^9 bytes), ``peak_of`` (``cuda`` or ``process``), ``parameters``,
        ``trainable_parameters``.
    """
    parameters = list(objective.parameters())
    return {
        "wall_minutes": (time.perf_counter() - started) / 60,
        "cpu_minutes": time.process_time() / 60,
        "peak_gb": peak_bytes(device) / 1e9,
        "peak_of": "cuda" if device.type == "cuda" else "process",
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }
