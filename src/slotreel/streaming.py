"""Frames into a model and label maps out of it: one way for scores, pictures and user videos.

H W size of the frames as stored, h w grid of the soft masks, K slots, n frames pushed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.data.geometry import nearest_resize, resize_pixels
from slotreel.errors import ConfigError
from slotreel.interfaces import Objective
from slotreel.types import Prediction

MAX_SLOTS = 254  # label maps are uint8: slot + 1, and 255 means ignore


def as_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels; one number means a square.

    Raises:
        ConfigError: if it is neither a positive number nor two of them.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ConfigError(
            f"expected image_size as one positive number or [height, width], got {size}; "
            "type image_size=64 or image_size=[64,112]"
        )
    return sides[0], sides[1]


def model_input(
    frames: np.ndarray,
    size: tuple[int, int],
    device: torch.device | str,
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """Frames as models see them, in [0, 1]; what bicubic overshoots is cut off.

    Args:
        frames: uint8 (n, H, W, 3).
        size: height and width that the model expects, pixels.
        device: where the result goes; the resize happens there.
        interpolation: nearest, bilinear or bicubic; pixel centres are aligned.
        antialias: average over what a smaller size leaves out.

    Returns:
        float32 (n, 3, *size).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    return at_size(pixels.permute(0, 3, 1, 2).float() / 255, size, interpolation, antialias)


def at_size(
    video: Tensor,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> Tensor:
    """Frames (n, 3, H, W) in [0, 1] -> (n, 3, *size), in [0, 1]; see ``model_input``."""
    if video.shape[-2:] != size:
        video = resize_pixels(video, size, interpolation, antialias)
    return video.clamp(0, 1)


def full_size(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Soft masks (K, h, w) -> float32 (K, *size), bilinear, align_corners off."""
    masks = masks.detach().float()  # half precision cannot be interpolated on every device
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]


def hard_labels(prediction: Prediction, size: tuple[int, int]) -> np.ndarray:
    """The label map of one frame: soft masks are upsampled first and cut afterwards.

    Soft masks (K, h, w) are resized bilinearly (align_corners off) and the largest wins; label
    maps of another size are resized to the nearest pixel. Among equal masks the first slot wins.

    Args:
        prediction: soft masks or labels of a frame.
        size: height and width of the wanted map, pixels.

    Returns:
        uint8 (H, W): ``first_label`` + slot (slot + 1 unless the model says otherwise); 0 =
        background.

    Raises:
        ValueError: if the prediction has neither masks nor labels, or more slots than a label map
            can name.
    """
    if prediction.masks is not None:
        masks = prediction.masks.detach()
        if masks.ndim != 3 or not 1 <= masks.shape[0] <= MAX_SLOTS:
            raise ValueError(
                f"frame {prediction.frame}: expected soft masks (K, h, w) with K in 1..{MAX_SLOTS},"
                f" got shape {tuple(masks.shape)}"
            )
        winner = full_size(masks, size).argmax(0) + prediction.first_label
        labels: np.ndarray = winner.to(torch.uint8).cpu().numpy()
        return labels
    if prediction.labels is None:
        raise ValueError(f"frame {prediction.frame}: expected masks or labels, got neither")
    return nearest_resize(prediction.labels, size)


@contextmanager
def evaluating(objective: Objective) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is as it was before."""
    modes = [(module, module.training) for module in objective.modules()]
    objective.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
