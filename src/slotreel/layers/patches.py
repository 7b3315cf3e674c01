"""A random part of a frame's patches, where decoding all of them costs too much."""

from __future__ import annotations

import torch
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.types import Decode, DecoderOutput


def check_share(where: str, share: float) -> None:
    """Refuse a share of patches outside (0, 1].

    Raises:
        ConfigError: with a value to type.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"expected {where} above 0 and at most 1, got {share}; type {where}=0.25")


def decode_some(
    decode: Decode, slots: Tensor, target: Tensor, share: float
) -> tuple[DecoderOutput, Tensor]:
    """Decode a random share of the patches, at least one; all of them at share 1.

    Drawn from torch's generator, which the loop seeds anew at every step: a resumed run draws the
    same. All frames share the patches, so that a decoder makes one table of positions.

    Args:
        decode: of the step's context.
        slots: (B, T, K, D).
        target: (B*T, N, C), what all N patches should be.
        share: of the patches.

    Returns:
        What was decoded, P patches, and the target (B*T, P, C) there.
    """
    if share == 1:
        return decode(slots), target
    count = target.shape[1]
    chosen = torch.randperm(count)[: max(1, round(share * count))].sort()[0].to(target.device)
    return decode(slots, positions=chosen), target[:, chosen]
