"""Ranks: who we are, agreeing, gathering. Knows no model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.runtime.job import join_submitit
from slotreel.runtime.peers import Peers


class World(NamedTuple):
    """This process among its peers."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def joined(device: str, timeout_minutes: float = 10.0) -> Iterator[World]:
    """Be one of the ranks of a submitit task or of torchrun for the length of the block.

    A lone process is its own world. A block that raises ends the other ranks too, see ``Peers``.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (nccl).
        timeout_minutes: how long ranks wait for each other, to start and in every collective.

    Raises:
        ConfigError: no time to wait.
        UserError: another rank did not start, failed, died or hangs; the message says which.
    """
    if timeout_minutes <= 0:
        raise ConfigError(
            f"trainer.timeout_minutes={timeout_minutes} must be positive; type "
            "trainer.timeout_minutes=10"
        )
    world = _world()
    if world.size == 1:
        yield world
        return
    limit = timedelta(minutes=timeout_minutes)
    peers = Peers(world.rank, world.size, limit)
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=peers.store,
            rank=world.rank,
            world_size=world.size,
            timeout=limit,
        )
        yield world
    except BaseException as error:
        found = peers.fail(error)
        if found is error:
            raise
        raise found from None
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        peers.close()


def _world() -> World:
    """This process as submitit or torchrun describe it."""
    if "SUBMITIT_EXECUTOR" in os.environ:
        join_submitit()
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World()
    return World(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0))
    )


def choose_device(name: str, world: World) -> torch.device:
    """``auto`` prefers cuda, then cpu (mps only by name: its kernels are not bit-stable).

    Raises:
        ConfigError: the named device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("trainer.device=cuda, but torch sees no GPU; type trainer.device=cpu")
        device = torch.device("cuda", world.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("trainer.device=mps, but this machine has none; type trainer.device=cpu")
    if name not in ("cpu", "mps"):
        raise ConfigError(f"trainer.device={name} is not known; choose auto, cpu, cuda or mps")
    return torch.device(name)


def any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """Whether any rank raised each flag: one small all-reduce, the same answer everywhere."""
    if not dist.is_initialized():
        return flags
    votes = torch.tensor([float(flag) for flag in flags], device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars averaged over ranks; every rank must hold the same keys."""
    if not values:
        return {}
    keys = sorted(values)
    stacked = torch.stack([values[key].detach().float() for key in keys])
    if dist.is_initialized():
        dist.all_reduce(stacked)
        stacked /= dist.get_world_size()
    return dict(zip(keys, stacked.tolist(), strict=True))


def gather_objects(value: Any) -> list[Any]:
    """The value of every rank, in rank order, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def share_object(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait for every rank."""
    if dist.is_initialized():
        dist.barrier()


def gather_with_gradient(x: Tensor) -> Tensor:
    """(B, ...) of this rank -> (world * B, ...), the same on every rank, differentiable.

    Every rank computes the loss of the whole batch from it. The backward sums gradients over ranks
    and DDP then divides by their number, so parameters get the gradient one process would get.
    """
    if not dist.is_initialized():
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather along axis 0 whose backward is the sum over ranks of this rank's part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()].clone()
