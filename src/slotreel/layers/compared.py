"""Which features of a backbone a loss compares: its keys or its tokens."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.layers.checks import one_of
from slotreel.types import Dims, FrameFeatures

Compared = Literal["auto", "keys", "tokens"]


def compares_keys(term: str, features: Compared, dims: Dims) -> bool:
    """Whether loss ``term`` compares keys; ``auto`` means where the backbone has them.

    Raises:
        ConfigError: an unknown word, or keys of a backbone that has none.
    """
    one_of(f"losses.{term}.features", features, get_args(Compared))
    if features == "keys" and dims.key_width is None:
        raise ConfigError(
            f"losses.{term} compares keys, and this backbone has none; type backbone=tiny_vit or "
            f"backbone=dino_vitb8, or compare its tokens: losses.{term}.features=tokens"
        )
    return features != "tokens" and dims.key_width is not None


def compared(features: FrameFeatures, keys: bool) -> Tensor:
    """Keys or tokens (B, T, N, E), without gradient."""
    if not keys:
        return features.tokens.detach()
    assert features.keys is not None, "build asks the backbone for what losses need"
    return features.keys.detach()
