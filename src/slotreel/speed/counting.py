"""Floating point operations and memory traffic of each part of a step, as its operations run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from slotreel.speed.timeline import Phase, Timeline


@dataclass
class Cost:
    """What a phase does.

    Attributes:
        flops: of matrix products, convolutions and attention; a multiplication with an addition
            counts 2, everything else 0.
        traffic: bytes that its operations read and write, each operation by itself.
    """

    flops: int = 0
    traffic: int = 0


class Counter(TorchDispatchMode):
    """Adds the cost of every operation to the phase the timeline is in.

    Source: counts of ``torch.utils.flop_counter``. Differs: by phase, with traffic.

    Args:
        timeline: says whose work it is.
    """

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.timeline = timeline
        self.costs: dict[Phase, Cost] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        packet = func._overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        cost = self.costs.setdefault(self.timeline.now, Cost())
        if packet in flop_registry:
            cost.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        cost.traffic += _traffic(func, args, kwargs, out)
        return out


def _traffic(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """Bytes read and written; nothing for a view or for memory that is only reserved."""
    given = list(_tensors((args, kwargs)))
    known = {x.untyped_storage().data_ptr() for x in given}
    new = [x for x in _tensors(out) if x.untyped_storage().data_ptr() not in known]
    names = zip(func._schema.arguments, args, strict=False)
    changed = [x for a, x in names if a.alias_info is not None and a.alias_info.is_write]
    if not new and not changed:
        return 0
    if func._overloadpacket in (torch.ops.aten.empty, torch.ops.aten.empty_like):
        return 0
    return sum(nbytes(x) for x in (*given, *new, *_tensors(changed)))


def _tensors(values: Any) -> Iterator[Tensor]:
    return (x for x in tree_leaves(values) if isinstance(x, Tensor))


def nbytes(x: Tensor) -> int:
    """Bytes a tensor occupies; what is repeated by a stride of 0 counts once."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
