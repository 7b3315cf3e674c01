"""One training step of any configuration, on random clips, as the loop makes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from omegaconf import DictConfig

from slotreel.assemble import build_objective, image_size_of
from slotreel.build import build_clips
from slotreel.data.loader import training_loader
from slotreel.errors import ConfigError, UserError
from slotreel.interfaces import Objective
from slotreel.noise import seed_of
from slotreel.objective import SlotObjective
from slotreel.optimizing import build_optimizer
from slotreel.speed.plain import plain
from slotreel.speed.timeline import CLOCKS, Timeline
from slotreel.training.optim import apply_phases, phases_begun
from slotreel.types import Batch, LossOutput, Progress


class Workload:
    """A model, its optimizer and a batch of random clips.

    Args:
        cfg: resolved configuration; ``benchmark.baseline=true`` takes its plain form.
        device: where it works.

    Raises:
        ConfigError: parts that do not fit, a model that is not ``model=slots``, micro-batches.
    """

    def __init__(self, cfg: DictConfig, device: torch.device) -> None:
        cfg = plain(cfg) if cfg.benchmark.baseline else cfg
        if cfg.trainer.accumulate != 1:
            raise ConfigError(
                f"a step of one batch is measured, got trainer.accumulate={cfg.trainer.accumulate};"
                " type trainer.accumulate=1 and the batch size of one part"
            )
        objective = build_objective(cfg)
        if not isinstance(objective, SlotObjective):
            raise ConfigError(
                f"parts are those of model=slots, not of {type(objective).__name__}; "
                "type model=slots"
            )
        self.cfg, self.device, self.steps = cfg, device, 0
        self.objective: SlotObjective = objective.to(device)
        apply_phases(objective, phases_begun(objective.phases(), 0))
        objective.train()
        self.optimizer = build_optimizer(cfg, objective)
        self.batch = random_batch(cfg, objective.views, device)

    def step(self, timeline: Timeline) -> LossOutput:
        """Forward, backward, clipping, update; as in the loop the device is waited for once."""
        torch.manual_seed(seed_of(self.cfg.seed, "step", self.steps))
        self.optimizer.set_step(self.steps)
        progress = Progress(self.steps, self.cfg.trainer.num_steps)
        with arithmetic(self.cfg.trainer.precision):
            timeline.switch("losses", "forward")
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.cfg.trainer.precision == "bf16"
            ):
                out: LossOutput = self.objective(self.batch, progress)
            timeline.switch("losses", "backward")
            out.total.backward()
        timeline.switch("optimizer", "update")
        norm = self.optimizer.clip()
        if not bool(torch.isfinite(torch.stack([out.total.detach(), norm])).all()):
            raise FloatingPointError(f"loss {out.total.item()}, gradient norm {norm.item()}")
        self.optimizer.step()
        self.objective.after_step(progress)
        self.steps += 1
        return out


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Products in TF32 if ``precision`` is ``tf32``, as ``build_run`` sets it for a whole run."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def random_batch(cfg: DictConfig, num_views: int, device: torch.device) -> Batch:
    """Noise in the shape of a batch: what is computed does not depend on what is seen."""
    clips, frames = cfg.trainer.batch_size, cfg.clip_length
    generator = torch.Generator().manual_seed(cfg.seed)
    shape = (clips, frames, 3, *image_size_of(cfg))
    views = tuple(torch.rand(shape, generator=generator).to(device) for _ in range(num_views))
    order = torch.arange(frames, device=device).expand(clips, -1)
    return Batch(views, order, torch.arange(clips, device=device))


def loader_milliseconds(
    cfg: DictConfig, objective: Objective, clock: str, batches: int = 3
) -> float | str:
    """Time in which one process makes a batch of the configuration's data; or why it cannot."""
    try:
        clips = build_clips(cfg, objective, [])
        loader = iter(training_loader(clips, cfg.trainer.batch_size, cfg.seed))
        next(loader)
        begin = CLOCKS[clock]()
        for _ in islice(loader, batches):
            pass
    except UserError as error:
        return str(error)
    return 1000 * (CLOCKS[clock]() - begin) / batches
