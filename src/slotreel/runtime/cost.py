"""What a run cost: time, memory, parameters."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from torch import nn


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
    cuda = device.type == "cuda"
    return {
        "wall_minutes": (time.perf_counter() - started) / 60,
        "cpu_minutes": time.process_time() / 60,
        "peak_gb": (torch.cuda.max_memory_allocated() if cuda else _resident_bytes()) / 1e9,
        "peak_of": "cuda" if cuda else "process",
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _resident_bytes() -> int:
    """Most memory this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts in kilobytes
