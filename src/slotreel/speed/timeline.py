"""Which part of a step works when, forward and backward, without stopping the device."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook
from torch.utils._pytree import tree_leaves

from slotreel.model import SlotVideoModel

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Phase(NamedTuple):
    """A part and what it does: ``forward``, ``backward`` or ``update``."""

    part: str
    direction: str


class Timeline:
    """Moments at which the work passes from one part to another.

    On a CUDA device moments are events in its queue: nothing waits before ``milliseconds``.

    Args:
        device: where the work is done.
        clock: ``wall``, or ``cpu`` for processor time summed over threads; of work on a CPU.
    """

    def __init__(self, device: torch.device, clock: str = "wall") -> None:
        self.device, self.clock = device, CLOCKS[clock]
        self.now = Phase("losses", "forward")
        self._ends: list[tuple[Phase, Any]] = []
        self._begin = self._moment()

    def switch(self, part: str, direction: str | None = None) -> None:
        """From here on ``part`` works; without a direction in the same one as before."""
        self._ends.append((self.now, self._moment()))
        self.now = Phase(part, direction or self.now.direction)

    def milliseconds(self) -> dict[Phase, float]:
        """Time of each phase since the start; the timeline ends here."""
        self.switch("losses", "forward")
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        totals: dict[Phase, float] = {}
        begin = self._begin
        for phase, end in self._ends:
            totals[phase] = totals.get(phase, 0.0) + self._between(begin, end)
            begin = end
        return totals

    def _moment(self) -> Any:
        if self.device.type != "cuda":
            return self.clock()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, begin: Any, end: Any) -> float:
        if self.device.type == "cuda":
            return float(begin.elapsed_time(end))
        return 1000.0 * (end - begin)


@contextmanager
def watched(model: SlotVideoModel, timeline: Timeline) -> Iterator[None]:
    """Tell the timeline whenever the work enters or leaves backbone, projector, scan or decoder.

    What is outside of all of them belongs to the losses. Backward a part begins when the gradients
    of all its outputs are there, and ends where the part before it begins.
    """
    handles = _watch(model, "scan", "losses", timeline)
    handles += _watch(model.backbone, "backbone", "scan", timeline)
    handles += _watch(model.projector, "projector", "scan", timeline)
    if model.decoder is not None:
        handles += _watch(model.decoder, "decoder", "losses", timeline)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(module: nn.Module, part: str, around: str, timeline: Timeline) -> list[Any]:
    def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        timeline.switch(part)
        if part == "decoder":  # the only part whose inputs belong to another one's backward
            _when_ready(inputs, functools.partial(timeline.switch, around))

    def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        timeline.switch(around)
        # features and tokens leave the scan as they entered it: they belong to earlier parts
        own = output[2:] if part == "scan" else output
        _when_ready(own, functools.partial(timeline.switch, part))

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _when_ready(values: Any, tell: Callable[[], None]) -> None:
    """Call ``tell`` in the backward pass once the gradients of all these tensors are there."""
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor) and x.requires_grad]
    if tensors:
        register_multi_grad_hook(tensors, lambda _: tell())
