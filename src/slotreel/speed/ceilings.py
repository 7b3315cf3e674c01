"""What this device reaches at best: matrix products and copies, measured on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from slotreel.speed.timeline import Timeline


class Ceilings(NamedTuple):
    """Best of several tries.

    Attributes:
        matmul: floating point operations per second of a square matrix product.
        copy: bytes per second read and written by a copy.
        dtype: of the matrix product; ``tf32`` is float32 with products in TF32.
    """

    matmul: float
    copy: float
    dtype: str


class Sizes(NamedTuple):
    """What the ceilings are measured on.

    Attributes:
        side: of the matrices.
        megabytes: that are copied; more than caches hold.
    """

    side: int
    megabytes: int


def measure_ceilings(
    device: torch.device,
    precision: str,
    clock: str = "wall",
    tries: int = 3,
    sizes: Sizes | None = None,
) -> Ceilings:
    """The best of ``tries`` matrix products and copies on this device, at this moment.

    Args:
        device: to measure.
        precision: as ``trainer.precision``; the caller has switched TF32 on or off.
        clock: as in ``Timeline``. With ``cpu`` products are per second of one thread.
        tries: of each.
        sizes: null takes sizes that fill the device.
    """
    cuda = device.type == "cuda"
    side, megabytes = sizes or (Sizes(8192, 1024) if cuda else Sizes(1024, 128))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)

    def best(work: Callable[[], object]) -> float:
        return min(_seconds(work, device, clock) for _ in range(tries + 1))  # the first warms up

    return Ceilings(
        matmul=2 * side**3 / best(lambda: torch.mm(a, b, out=product)),
        copy=2 * source.nbytes / best(lambda: target.copy_(source)),
        dtype=precision,
    )


def best_of(one: Ceilings, other: Ceilings) -> Ceilings:
    """The higher of two measurements: a busy machine only ever lowers them."""
    return Ceilings(max(one.matmul, other.matmul), max(one.copy, other.copy), one.dtype)


def _seconds(work: Callable[[], object], device: torch.device, clock: str) -> float:
    timeline = Timeline(device, clock)
    work()
    return sum(timeline.milliseconds().values()) / 1000
