"""Whether slots work, from the slot vectors alone: are they different, stable, about the clip?

T frames, K slots, D width. One entry per clip; clips may differ in T. Everything is computed in
float64; a slot of length 0 has cosine 0 with all others. Undefined numbers are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.metrics.health import defined, mean

TWIN = 0.95  # cosine from which two slots are duplicates
NOTHING = 1e-12  # variance relative to the mean square below which vectors are the same


def slot_health(slots: Sequence[Tensor]) -> dict[str, float]:
    """Every number that follows from slot vectors.

    Args:
        slots: per clip (T, K, D).

    Returns:
        Those of slot_cosine, duplicates, identity_margin, slot_rank and content_share that are
        defined.

    Raises:
        ValueError: if there is no clip.
    """
    if not slots:
        raise ValueError("expected at least one clip, got none")
    values = {
        "slot_cosine": slot_cosine(slots),
        "duplicates": duplicates(slots),
        "identity_margin": identity_margin(slots),
        "slot_rank": slot_rank(slots),
        "content_share": content_share(slots),
    }
    return defined(values)


def slot_cosine(slots: Sequence[Tensor]) -> float:
    """Mean cosine of two different slots of a frame; near 1 = collapse. NaN for one slot."""
    return mean(_others(_cosines(clip, clip)).numpy() for clip in slots)


def duplicates(slots: Sequence[Tensor]) -> float:
    """Share of the slots with another of the same frame above cosine 0.95. NaN for one slot."""
    if slots[0].shape[1] == 1:
        return math.nan
    return mean((_others(_cosines(clip, clip)) > TWIN).any(-1).numpy() for clip in slots)


def identity_margin(slots: Sequence[Tensor]) -> float:
    """How much more a slot resembles itself in the next frame than its nearest rival.

    cos(s_k,t, s_k,t+1) minus the largest cos(s_k,t, s_j,t+1) over j other than k, mean over slots
    and frames. Below 0: identities mix. A contrastive loss between frames maximises this very
    quantity, so it flatters models trained with one. NaN for one slot, and for single frames.
    """
    if slots[0].shape[1] == 1:
        return math.nan
    margins = []
    for clip in slots:
        cosines = _cosines(clip[:-1], clip[1:])
        own = cosines.diagonal(dim1=1, dim2=2)
        margins.append((own - _others(cosines).amax(-1)).numpy())
    return mean(margins)


def slot_rank(slots: Sequence[Tensor]) -> float:
    """Participation ratio of the covariance of all slots of all frames and clips.

    (sum of eigenvalues)^2 / sum of their squares: how many directions carry the variance, 1 to D.
    NaN where all slots are the same vector.
    """
    centred = _pooled(slots)
    if centred is None:
        return math.nan
    covariance = centred.T @ centred
    return float(covariance.trace() ** 2 / covariance.square().sum())


def content_share(slots: Sequence[Tensor]) -> float:
    """Share of the variance of all slots that is not explained by which slot it is.

    Variance around the mean of each index over the variance around the common mean: 0 = the same
    slots whatever the clip shows. NaN for a single clip, and where all slots are the same vector.
    """
    centred = _pooled(slots)
    if len(slots) < 2 or centred is None:
        return math.nan
    by_index = centred.unflatten(0, (-1, slots[0].shape[1]))  # (frames, K, D)
    within = (by_index - by_index.mean(0)).square().sum()
    return float(within / centred.square().sum())


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """(T, K, K) cosines of slots (T, K, D) with slots (T, K, D)."""
    a, b = (F.normalize(x.detach().cpu().double(), dim=-1) for x in (first, second))
    return a @ b.mT


def _others(cosines: Tensor) -> Tensor:
    """(T, K, K) without the diagonal: (T, K, K - 1)."""
    num_slots = cosines.shape[-1]
    different = ~torch.eye(num_slots, dtype=torch.bool)
    return cosines[:, different].unflatten(-1, (num_slots, num_slots - 1))


def _pooled(slots: Sequence[Tensor]) -> Tensor | None:
    """All slots (n, D) around their mean; None if they do not differ."""
    vectors = torch.cat([clip.detach().cpu().double().flatten(0, 1) for clip in slots])
    centred = vectors - vectors.mean(0)
    varies = centred.square().sum() > NOTHING * vectors.square().sum()
    return centred if bool(varies) else None
