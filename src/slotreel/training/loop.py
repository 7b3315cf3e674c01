"""The training loop: read it from ``fit`` down."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from slotreel import frozen
from slotreel.data.loader import to_device
from slotreel.errors import ConfigError, nearest
from slotreel.noise import seed_of
from slotreel.runtime.distributed import any_rank, barrier
from slotreel.runtime.signals import StopFlag
from slotreel.training.checkpoint import checkpoint_path, keep_last, save_atomic
from slotreel.training.evaluate import check_health, draw_clips, evaluate
from slotreel.training.optim import apply_phases, phases_begun
from slotreel.training.recent import AUTO_MONITOR, Recent
from slotreel.training.run import Best, Run
from slotreel.types import Batch, LossOutput, Progress

log = logging.getLogger(__name__)


def fit(run: Run) -> int:
    """Train to ``num_steps``, validating and saving on the way.

    Returns:
        0 when training is complete, else the exit code of the signal that stopped it.

    Raises:
        FloatingPointError: loss or gradient is not finite; raised before the update, on all ranks.
    """
    state, settings = run.state, run.settings
    batches: Iterator[Batch] = iter(run.batches(state.step))
    objective, phase = _wrap(run)
    recent = Recent(run)
    run.logger.begin(state.step)
    with StopFlag() as stop:
        while True:
            if _evaluation_due(run):
                with recent.pause():
                    whole = _validate(run, recent, stop)
                if not whole and _stop(run, stop):
                    return stop.exit_code
                continue  # an evaluation that was cut short under SLURM is due again
            if state.step >= settings.num_steps:
                _save(run)
                return 0
            if len(phases_begun(run.objective.phases(), state.step)) != phase:
                objective, phase = _wrap(run)
            told = _train_step(run, objective, batches, recent, stop)
            if told and _stop(run, stop):
                return stop.exit_code
            if _due(state.step, settings.save_every) and not told:
                _save(run)


def _train_step(
    run: Run, objective: nn.Module, batches: Iterator[Batch], recent: Recent, stop: StopFlag
) -> bool:
    """One update; True if any rank was told to stop."""
    state, settings = run.state, run.settings
    torch.manual_seed(seed_of(run.seed, "step", state.step))  # dropout: nothing to save
    rates = run.optimizer.set_step(state.step)
    with recent.waiting_for_data():
        batch = run.augment(to_device(next(batches), run.device), state.step)
    out = _backward(run, objective, batch)
    norms = recent.gradient_norms() if _due(state.step + 1, settings.log_every) else {}
    norm = run.optimizer.clip()
    bad, told = any_rank([not _finite(out, norm), stop.hit], run.device)
    if bad:
        raise FloatingPointError(_describe(out, norm, state.step))
    run.optimizer.step()
    run.objective.after_step(Progress(state.step, settings.num_steps))
    state.step += 1
    recent.add(out)
    if _due(state.step, settings.log_every):
        recent.log(rates, norms)
    return told


def _wrap(run: Run) -> tuple[nn.Module, int]:
    """The objective under DDP (again, whenever the set of trainable parameters changes)."""
    begun = phases_begun(run.objective.phases(), run.state.step)
    apply_phases(run.objective, begun)
    run.objective.train()
    if run.world.size == 1:
        return run.objective, len(begun)
    device_ids = [run.device] if run.device.type == "cuda" else None
    # Buffers are equal on all ranks by construction, so broadcasting them would only cost time.
    wrapped = DistributedDataParallel(run.objective, device_ids=device_ids, broadcast_buffers=False)
    return wrapped, len(begun)


def _backward(run: Run, objective: nn.Module, batch: Batch) -> LossOutput:
    """Gradients of a batch, in ``accumulate`` parts; returns the mean over the parts."""
    outputs = []
    parts = _split(batch, run.settings.accumulate)
    for micro, part in enumerate(parts):
        last = micro == len(parts) - 1
        quiet = isinstance(objective, DistributedDataParallel) and not last
        with objective.no_sync() if quiet else nullcontext():  # type: ignore[operator]
            with _autocast(run):
                progress = Progress(run.state.step, run.settings.num_steps, micro, len(parts))
                out: LossOutput = objective(part, progress)
            (out.total / len(parts)).backward()
        outputs.append(out)
    return outputs[0] if len(outputs) == 1 else _mean(outputs)


def _autocast(run: Run) -> AbstractContextManager[object]:
    if run.settings.precision != "bf16":
        return nullcontext()
    return torch.autocast(run.device.type, dtype=torch.bfloat16)


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    size = len(batch.clip_id) // parts
    return [batch.clips(slice(i * size, (i + 1) * size)) for i in range(parts)]


def _mean(outputs: list[LossOutput]) -> LossOutput:
    def over(values: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {key: torch.stack([v[key].detach() for v in values]).mean() for key in values[0]}

    return LossOutput(
        torch.stack([out.total.detach() for out in outputs]).mean(),
        over([out.terms for out in outputs]),
        over([out.shares for out in outputs]),
        over([out.logs for out in outputs]),
    )


def _finite(out: LossOutput, norm: Tensor) -> bool:
    """Loss and gradient together: one wait for the device, not two."""
    return bool(torch.isfinite(torch.stack([out.total.detach().float(), norm.float()])).all())


def _describe(out: LossOutput, norm: Tensor, step: int) -> str:
    terms = ", ".join(f"{name}={float(value.detach()):.4g}" for name, value in out.terms.items())
    guilty = [n for n, v in out.terms.items() if not math.isfinite(float(v.detach()))]
    named = f"loss term {', '.join(guilty)} is" if guilty else "a gradient (or another rank) is"
    return (
        f"step {step}: {named} not finite ({terms}; gradient norm {float(norm):.4g}). Nothing was "
        "updated; the last checkpoint is good. Try a lower optim lr, optim.clip.max=0.05 or "
        "trainer.precision=fp32."
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluation_due(run: Run) -> bool:
    """Validation due at a step is state: it is repeated after a resume if it was cut short."""
    step, settings = run.state.step, run.settings
    due = _due(step, settings.eval_every) and step > 0
    return (due or step == settings.num_steps) and run.state.evaluated_step != step


def _validate(run: Run, recent: Recent, stop: StopFlag) -> bool:
    """Score every validation set; False if a signal cut it short."""
    tables = evaluate(run, lambda: stop.hit)
    if tables is None:
        return False
    values = {
        f"val/{name}/{table.protocol}/{metric}": value
        for name, table in tables.items()
        for metric, value in table.means().items()
    }
    values |= check_health(run)
    run.logger.log(run.state.step, values | run.axes())
    draw_clips(run)
    run.state.evaluated_step, run.state.tables = run.state.step, tables
    _remember_best(run, values | {"train/loss": recent.last_loss})
    return True


def _remember_best(run: Run, values: dict[str, float]) -> None:
    """Keep the best checkpoint by ``trainer.monitor``; by the loss where nothing has masks."""
    state, settings = run.state, run.settings
    wanted = AUTO_MONITOR if settings.monitor == "auto" else (settings.monitor,)
    keys = [key for metric in wanted for key in values if key.endswith(f"/{metric}")]
    mode = settings.mode
    if not keys:
        if any(validation.labelled for validation in run.validations):
            known = sorted({key.split("/", 3)[-1] for key in values})
            raise ConfigError(
                f"trainer.monitor={settings.monitor} was not measured; "
                f"{nearest(settings.monitor, known)}"
            )
        keys, mode = ["train/loss"], "min"
    value = values[keys[0]]
    if math.isnan(value):
        return
    if state.best is None or (value > state.best.value) == (mode == "max"):
        state.best = Best(value, state.step)
        if run.world.is_main:
            save_atomic(run.directory / "checkpoints" / "best.pt", _content(run))


def _stop(run: Run, stop: StopFlag) -> bool:
    """Save; True if the loop must return, False if it trains on until killed (SLURM)."""
    _save(run)
    number = stop.agree(run.device)
    log.info("told to stop (%s): saved step %d", number.name, run.state.step)
    return stop.hand_over(number, run.world.is_main)


def _save(run: Run) -> None:
    if run.world.is_main:
        save_atomic(checkpoint_path(run.directory, run.state.step), _content(run))
        keep_last(run.directory, run.settings.keep)
    barrier()


def _content(run: Run) -> dict[str, object]:
    state = run.state
    objective, references = frozen.split(run.objective)
    return {
        "step": state.step,
        "evaluated_step": state.evaluated_step,
        "hours": run.hours(),
        "best": None if state.best is None else list(state.best),
        "objective": objective,
        "frozen": references,
        "optimizer": run.optimizer.torch.state_dict(),
        "config": run.config,
    }
