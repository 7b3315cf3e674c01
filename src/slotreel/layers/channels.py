"""Channels that a decoder predicts for each patch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.types import Dims, Target


def patch_channels(decoder: str, targets: Mapping[str, Target], dims: Dims) -> dict[str, int]:
    """Channels per patch of each target; a ``per="pixel"`` target takes all pixels of a patch.

    Args:
        decoder: option that asks, for the error.
        targets: what to predict.
        dims: patch grid and image size at training.

    Raises:
        ConfigError: pixels are wanted but the image does not divide into the grid's patches.
    """
    (height, width), (h, w) = dims.image_size, dims.grid
    pixels = [name for name, target in targets.items() if target.per == "pixel"]
    if pixels and (height % h or width % w):
        raise ConfigError(
            f"decoder={decoder} predicts {pixels[0]} as the pixels of each patch, but "
            f"{height}x{width} pixels do not divide into {h}x{w} patches; type "
            f"image_size=[{height // h * h},{width // w * w}] or decoder=spatial_broadcast"
        )
    area = (height // h) * (width // w)
    return {
        name: target.width * (area if target.per == "pixel" else 1)
        for name, target in targets.items()
    }


def split_channels(channels: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Cut the last axis into named parts of these widths, in order."""
    parts = torch.split(channels, list(widths.values()), dim=-1)
    return dict(zip(widths, parts, strict=True))
