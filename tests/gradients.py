"""Loss and gradients of the first step, by the loop's own code, in one process or several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slotreel.build import build_run
from slotreel.data.loader import to_device
from slotreel.runtime.distributed import joined, mean_over_ranks
from slotreel.training import loop
from tests import running
from tests.processes import SMALL, context, free_port

CPU = torch.device("cpu")
Answer = dict[str, tuple[dict[str, float], dict[str, Tensor]]]  # case -> terms, gradients


def gradients(
    directory: Path, cases: Mapping[str, Sequence[str]], size: int, dtype: torch.dtype
) -> Answer:
    """Terms and gradients of every case, computed by ``size`` processes and the same batch."""
    port, directory = free_port(), directory / f"{size}_{dtype}"
    directory.mkdir()
    processes = [
        context().Process(target=_work, args=(directory, dict(cases), rank, size, port, dtype))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * size
    answer: Answer = torch.load(directory / "answer.pt")
    return answer


def _work(
    directory: Path, cases: dict[str, Any], rank: int, size: int, port: int, dtype: torch.dtype
) -> None:
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
    answer: Answer = {}
    with joined("cpu") as world:
        for name, options in cases.items():
            cfg = running.composed("train", *running.TINY, *SMALL, *options)
            run = build_run(cfg, world, CPU, directory, list)
            run.objective.to(dtype)
            objective, _ = loop._wrap(run)
            batch = run.augment(to_device(next(iter(run.batches(0))), CPU), 0)
            batch = batch._replace(views=tuple(view.to(dtype) for view in batch.views))
            out = loop._backward(run, objective, batch)
            named = run.objective.named_parameters()
            found = {n: p.grad.clone() for n, p in named if p.grad is not None}
            answer[name] = mean_over_ranks(out.terms), found
    if rank == 0:
        torch.save(answer, directory / "answer.pt")
