"""Bytes that must cross a part's border, however its inside is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from slotreel.speed.counting import nbytes
from slotreel.speed.timeline import Phase, Timeline
from slotreel.speed.workload import Workload


class _Border(NamedTuple):
    """Bytes in and out of a module; of these, the bytes that have a gradient."""

    given: int
    given_grad: int
    made: int
    made_grad: int


def least_bytes(workload: Workload) -> dict[Phase, int]:
    """Bytes each phase must read and write, if all its own intermediate values cost nothing.

    Forward a part reads its inputs and parameters and writes its outputs. Backward it reads the
    inputs, the parameters and the outputs' gradients and writes the gradients of parameters and
    inputs. Losses read what was decoded and the slots. An update reads gradients, and reads and
    writes parameters and the optimizer's state.

    Args:
        workload: one more step of it is made.
    """
    model = workload.objective.model
    parts: dict[str, nn.Module] = {"backbone": model.backbone, "projector": model.projector}
    if model.decoder is not None:
        parts["decoder"] = model.decoder
    seen: dict[str, _Border] = {}

    def see(name: str, given: Any, made: Any) -> None:
        seen[name] = _Border(*_size(given), *_size(made))

    handles = [
        part.register_forward_hook(lambda _, given, made, name=name: see(name, given, made))
        for name, part in parts.items()
    ]
    handles.append(model.register_forward_hook(lambda _, given, made: see("scan", (), made[2:])))
    try:
        workload.step(Timeline(workload.device))
    finally:
        for handle in handles:
            handle.remove()
    tokens, scan = seen["projector"], seen["scan"]
    seen["scan"] = scan._replace(given=tokens.made, given_grad=tokens.made_grad)
    parts["scan"] = nn.ModuleList([model.initializer, model.grouper, model.predictor])
    least = _of_parts(parts, seen)
    decoded = seen["decoder"].made if "decoder" in seen else 0
    least[Phase("losses", "forward")] = scan.made + decoded
    least[Phase("losses", "backward")] = scan.made_grad + decoded
    least[Phase("optimizer", "update")] = _of_update(workload.optimizer.torch)
    return least


def _of_parts(parts: dict[str, nn.Module], seen: dict[str, _Border]) -> dict[Phase, int]:
    least = {}
    for name, part in parts.items():
        border, parameters = seen[name], list(part.parameters())
        all_of_it = sum(nbytes(p) for p in parameters)
        trained = sum(nbytes(p) for p in parameters if p.requires_grad)
        least[Phase(name, "forward")] = border.given + all_of_it + border.made
        if border.made_grad:
            own = border.given + border.given_grad + all_of_it + trained
            least[Phase(name, "backward")] = own + border.made_grad
    return least


def _of_update(optimizer: torch.optim.Optimizer) -> int:
    total = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = [x for x in _tensors(optimizer.state.get(parameter, {})) if x.dim()]
            if state:
                total += 3 * nbytes(parameter) + 2 * sum(nbytes(x) for x in state)
    return total


def _size(values: Any) -> tuple[int, int]:
    tensors = list(_tensors(values))
    return sum(map(nbytes, tensors)), sum(nbytes(x) for x in tensors if x.requires_grad)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (x for x in tree_leaves(values) if isinstance(x, Tensor))
