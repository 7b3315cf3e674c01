"""Named draws: parameters and inputs that a name and a shape determine, for seeded examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

# our parameter of the grouper -> name and leading axes of the published one
PUBLISHED = {
    "log_std": ("slots_sigma", True),
    **{
        f"{ours}.{kind}": (f"{theirs}.{kind}", False)
        for ours, theirs in {
            "norm_tokens": "norm_input",
            "norm_slots": "norm_slots",
            "norm_mlp": "norm_pre_ff",
            "to_query": "project_q",
            "to_key": "project_k",
            "to_value": "project_v",
            "mlp.0": "mlp.0",
            "mlp.2": "mlp.2",
        }.items()
        for kind in ("weight", "bias")
    },
}


def draw(tag: str, shape: Sequence[int]) -> Tensor:
    """Standard normal values that the tag names."""
    values = np.random.RandomState(crc32(tag.encode())).standard_normal(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


def udraw(tag: str, shape: Sequence[int]) -> Tensor:
    """Values uniform in [0, 1) that the tag names."""
    values = np.random.RandomState(crc32(tag.encode())).random_sample(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


def parameter(name: str, shape: Sequence[int]) -> Tensor:
    """Value of a published parameter, scaled by what it is."""
    z = draw(name, shape)
    if name.endswith("slots_mu"):
        return z
    if name.endswith("slots_sigma"):
        return 0.03 * z
    if name.endswith(("pos_embed", "cls_token")):
        return 0.02 * z
    if name.endswith("bias"):
        return 0.02 * z
    if len(shape) == 1:
        return 1 + 0.05 * z
    return z / math.sqrt(math.prod(shape[1:]))


@torch.no_grad()
def fill(grouper: nn.Module, prefix: str = "") -> None:
    """Give the grouper's slot parameters their published names' values."""
    for name, tensor in grouper.named_parameters():
        if name not in PUBLISHED:
            continue
        theirs, table = PUBLISHED[name]
        shape = (1, tensor.shape[0], 1, tensor.shape[1]) if table else tuple(tensor.shape)
        tensor.copy_(parameter(prefix + theirs, shape).reshape(tensor.shape))
