"""What backbones share about frames: whether they fit, normalising, encoding a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError


def patch_grid(image_size: tuple[int, int], patch: tuple[int, int], who: str) -> tuple[int, int]:
    """Grid (h, w) of frames (H, W) cut into patches; both sides must divide evenly.

    Raises:
        ConfigError: they do not; names the nearest sizes that fit.
    """
    sides = tuple(int(side) for side in image_size)
    if len(sides) == 2 and all(s > 0 and s % p == 0 for s, p in zip(sides, patch, strict=True)):
        return sides[0] // patch[0], sides[1] // patch[1]
    unit = str(patch[0]) if patch[0] == patch[1] else f"{patch[0]} (height) and {patch[1]} (width)"
    if len(sides) != 2:
        raise ConfigError(f"{who} expects image_size as (height, width), got {sides}")
    below = tuple(max(s // p, 1) * p for s, p in zip(sides, patch, strict=True))
    above = tuple(max(-(-s // p), 1) * p for s, p in zip(sides, patch, strict=True))
    fits = " or ".join(f"image_size={_typed(size)}" for size in dict.fromkeys((below, above)))
    raise ConfigError(
        f"{who} expects height and width in multiples of {unit}, got {sides[0]}x{sides[1]}; "
        f"type {fits}"
    )


def _typed(size: tuple[int, ...]) -> str:
    return str(size[0]) if size[0] == size[1] else f"[{size[0]},{size[1]}]"


def check_want(want: frozenset[str], offered: frozenset[str], who: str) -> None:
    """Refuse optional features that a backbone does not have.

    Raises:
        ConfigError: names what is lacking and which backbones have it.
    """
    lacking = sorted(want - offered)
    if lacking:
        has = ", ".join(sorted(offered)) or "none of the optional features"
        raise ConfigError(
            f"a part asked for {', '.join(lacking)}, but {who} offers {has}; type "
            "backbone=tiny_vit (keys) or backbone=dino_vits16 (keys, cls, cls_attention)"
        )


class Normalise(nn.Module):
    """(video - mean) / std, per colour or with one number for all.

    Source: none, arithmetic. Differs: constants are not part of the state dict.

    Args:
        mean: subtracted; a number or one per colour.
        std: divided by; a number or one per colour, above 0.

    Shapes: (..., 3, H, W) -> the same.

    Raises:
        ConfigError: a std that is not positive, or a list that has not one entry per colour.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            numbers = [float(v) for v in (value if isinstance(value, Sequence) else [value])]
            if len(numbers) not in (1, 3) or (name == "std" and min(numbers) <= 0):
                raise ConfigError(
                    f"expected backbone.{name} as one number or three"
                    f"{', above 0' if name == 'std' else ''}; got {value}; "
                    f"type backbone.{name}=0.5"
                )
            constant = torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        """Video (..., 3, H, W) in [0, 1] -> normalised."""
        return (video - self.mean) / self.std


@contextmanager
def normalising(
    model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]
) -> Iterator[int]:
    """Other constants in every ``Normalise`` of a model for a while; gives how many there are.

    Raises:
        ConfigError: as ``Normalise``.
    """
    other = Normalise(mean, std)
    found = [module for module in model.modules() if isinstance(module, Normalise)]
    own = [(module.mean, module.std) for module in found]
    for module in found:
        module.mean = other.mean.to(module.mean.device)
        module.std = other.std.to(module.std.device)
    try:
        yield len(found)
    finally:
        for module, (mean_before, std_before) in zip(found, own, strict=True):
            module.mean, module.std = mean_before, std_before


def in_chunks(
    encode: Callable[[Tensor], dict[str, Tensor]], video: Tensor, frames_per_call: int | None
) -> dict[str, Tensor]:
    """``encode`` (n, C, H, W) -> {name: (n, ...)} over all frames of a video (B, T, C, H, W).

    Args:
        encode: treats frames independently.
        video: clips.
        frames_per_call: at most so many frames at a time; None takes all at once.

    Returns:
        {name: (B, T, ...)}.

    Raises:
        ConfigError: frames_per_call is not positive.
    """
    if frames_per_call is not None and frames_per_call < 1:
        raise ConfigError(
            f"expected backbone.frames_per_call above 0, got {frames_per_call}; "
            "type backbone.frames_per_call=null for all frames at once"
        )
    frames = video.flatten(0, 1)
    size = frames_per_call or len(frames)
    parts = [encode(chunk) for chunk in frames.split(size)]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: x.reshape(*video.shape[:2], *x.shape[1:]) for name, x in joined.items()}
