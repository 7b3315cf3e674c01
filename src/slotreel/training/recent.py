"""What is said of the steps since the last log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from slotreel.runtime.distributed import mean_over_ranks
from slotreel.runtime.memory import peak_bytes
from slotreel.training.run import Run
from slotreel.types import LossOutput

AUTO_MONITOR = ("fg_ari_video", "jf", "mean_iou", "pck_0.1")  # of monitor: auto


class Recent:
    """Averages of the steps since the last log, and where their time went."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.last_loss = math.nan
        self._reset()

    def _reset(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.steps, self.data_s, self.started = 0, 0.0, time.perf_counter()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """The time inside counts as waiting for the loader."""
        start = time.perf_counter()
        yield
        self.data_s += time.perf_counter() - start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The time inside, e.g. of an evaluation, counts for no step."""
        start = time.perf_counter()
        yield
        self.started += time.perf_counter() - start

    def add(self, out: LossOutput) -> None:
        """Sum up what a step said."""
        self.steps += 1
        named = {"train/loss": out.total}
        named |= {f"train/loss/{name}": value for name, value in out.terms.items()}
        named |= {f"train/share/{n}": v / out.total for n, v in out.shares.items()}
        named |= {f"train/{name}": value for name, value in out.logs.items()}
        for key, value in named.items():
            value = value.detach()
            self.values[key] = self.values[key] + value if key in self.values else value

    def gradient_norms(self) -> dict[str, Tensor]:
        """Norm of the gradient per component, before clipping."""
        norms = {}
        for name, members in self.run.objective.param_groups().items():
            gradients = [p.grad for _, p in members if p.grad is not None]
            if gradients:
                norms[f"train/grad_norm/{name}"] = torch.nn.utils.get_total_norm(gradients)
        return norms

    def log(self, rates: dict[str, float], norms: dict[str, Tensor]) -> None:
        """Write the means, and begin anew."""
        run = self.run
        values = mean_over_ranks({k: v / self.steps for k, v in self.values.items()} | norms)
        values |= {f"train/lr/{name}": rate for name, rate in rates.items()}
        seconds = (time.perf_counter() - self.started) / self.steps
        values["perf/step_ms"] = 1000 * seconds
        values["perf/data_ms"] = 1000 * self.data_s / self.steps
        values["perf/clips_s"] = run.settings.batch_size / seconds
        values["perf/peak_gb"] = peak_bytes(run.device) / 1e9
        values |= run.axes()
        self.last_loss = values["train/loss"]
        run.logger.log(run.state.step, values)
        loss, speed = values["train/loss"], values["perf/clips_s"]
        run.logger.progress(
            run.state.step,
            f"loss {loss:.4f}{_headline(run)}  {speed:.0f} clips/s",
            f"{values['perf/step_ms']:.0f} ms/step (waiting for data {values['perf/data_ms']:.0f})",
        )
        self._reset()


def _headline(run: Run) -> str:
    """The last validation in a word, e.g. ``  fg_ari_video 0.61``; nothing before the first."""
    for table in (run.state.tables or {}).values():
        means = table.means()
        metric = next((name for name in (run.settings.monitor, *AUTO_MONITOR) if name in means), "")
        if metric:
            return f"  {metric} {means[metric]:.3f}"
    return ""
