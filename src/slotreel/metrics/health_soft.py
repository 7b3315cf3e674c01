"""Whether slots compete: from soft masks, before anything is cut.

T frames, K slots, h w grid. One entry per clip; clips may differ in T and grid. Undefined numbers
are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from slotreel.metrics.health import defined, mean


def soft_health(masks: Sequence[Tensor]) -> dict[str, float]:
    """Those of undecided and attention_spread that are defined.

    Args:
        masks: per clip (T, K, h, w), in [0, 1]; they may overlap.
    """
    return defined({"undecided": undecided(masks), "attention_spread": attention_spread(masks)})


def undecided(masks: Sequence[Tensor]) -> float:
    """Entropy over slots in a cell over log K, mean over cells; 1 = no competition.

    Masks are divided by their sum over slots; a cell that no slot wants counts 1. NaN for one slot.
    """
    num_slots = masks[0].shape[1]
    if num_slots == 1:
        return math.nan
    entropies = []
    for soft in masks:
        total = soft.double().sum(1, keepdim=True)
        shares = torch.where(total > 0, soft.double() / total, 1 / num_slots)
        entropies.append(torch.special.entr(shares).sum(1).cpu().numpy())
    return mean(entropies) / math.log(num_slots)


def attention_spread(masks: Sequence[Tensor]) -> float:
    """How much of the frame a slot looks at: exp of its entropy over cells, over their number.

    1 = everywhere alike, 1 / (h w) = one cell. A slot without any mass is left out of the mean.
    """
    spreads = []
    for soft in masks:
        cells = soft.flatten(2).double()
        shares = cells / cells.sum(-1, keepdim=True)  # 0 / 0 = NaN is left out
        spread = torch.special.entr(shares).sum(-1).exp() / cells.shape[-1]
        spreads.append(spread.cpu().numpy())
    return mean(spreads)
