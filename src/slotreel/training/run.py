"""What the loop works on: one value that ``build`` makes and nobody else changes but ``state``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from slotreel.interfaces import Objective, VideoSource
from slotreel.protocols.protocol import Protocol, ScoreTable
from slotreel.protocols.symptoms import Health
from slotreel.runtime.distributed import World
from slotreel.runtime.logging import RunLogger
from slotreel.training.optim import Optimizer
from slotreel.types import Batch


class Best(NamedTuple):
    """The best validation so far; chosen with labels unless it is the loss."""

    value: float
    step: int


@dataclass
class TrainState:
    """Everything that survives a restart beside weights and optimizer, and the last scores."""

    step: int = 0  # updates done
    evaluated_step: int = -1  # last step whose evaluation was finished
    best: Best | None = None
    hours: float = 0.0  # of all processes, up to the checkpoint that was read
    began: float = field(default_factory=time.perf_counter)  # of this process; not stored
    tables: dict[str, ScoreTable] | None = None  # of evaluated_step; not stored
    health: Mapping[str, Health] = field(
        default_factory=dict
    )  # by set, of evaluated_step; as above
    symptoms: set[str] = field(default_factory=set)  # told since the process started


class Validation(NamedTuple):
    """A set of videos with the protocol that scores it.

    ``labelled`` is False where there are no masks: such a set is drawn, not scored. ``settings``
    is what source and protocol were made of, as plain values; None if nobody wrote it down.
    """

    name: str
    source: VideoSource
    protocol: Protocol
    labelled: bool = True
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainerSettings:
    """``conf/trainer``; every field is documented there."""

    num_steps: int
    batch_size: int
    accumulate: int
    precision: str
    eval_every: int
    save_every: int
    log_every: int
    keep: int
    monitor: str
    mode: str


@dataclass(frozen=True)
class Run:
    """A run, ready to go."""

    directory: Path
    seed: int
    image_size: tuple[int, int]
    settings: TrainerSettings
    world: World
    device: torch.device
    objective: Objective
    optimizer: Optimizer
    batches: Callable[[int], Iterable[Batch]]  # step -> this rank's batches from that step on
    augment: Callable[[Batch, int], Batch]  # on the device, as a function of the step
    validations: list[Validation]
    watch: Callable[[Objective, Validation], Health]  # slot health on the first videos of a set
    draw: Callable[[Objective, Validation, int], Mapping[str, Path]]  # mask videos of a step
    logger: RunLogger
    config: str  # resolved configuration as YAML: stored in every checkpoint
    state: TrainState = field(default_factory=TrainState)

    def hours(self) -> float:
        """Time spent on this run so far, summed over its processes."""
        now = time.perf_counter() - self.state.began
        return self.state.hours + now * self.world.size / 3600

    def axes(self) -> dict[str, float]:
        """What curves may be drawn over beside the step: for runs of other batches or machines."""
        clips = float(self.state.step * self.settings.batch_size)
        return {"clips_seen": clips, "gpu_hours": self.hours()}
