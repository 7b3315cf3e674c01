"""One cut-and-scale for everything in a clip: pixels, labels, boxes and points move together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from slotreel.errors import ConfigError, nearest
from slotreel.types import RawClip

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


class Window(NamedTuple):
    """A rectangle of the frame, pixels."""

    top: int
    left: int
    height: int
    width: int


def parse_size(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """One number (square) or (H, W) -> (H, W).

    Raises:
        ConfigError: not one or two whole numbers above 0.
    """
    pair = [size, size] if isinstance(size, int) else list(size)
    if len(pair) != 2 or any(not isinstance(n, int) or n < 1 for n in pair):
        raise ConfigError(f"size={size}: expected one number or [height, width], all above 0")
    return pair[0], pair[1]


def parse_interpolation(name: str) -> str:
    """The name, if there is such an interpolation.

    Raises:
        ConfigError: unknown name.
    """
    if name not in INTERPOLATIONS:
        raise ConfigError(f"interpolation={name}: {nearest(name, INTERPOLATIONS)}")
    return name


def resize_frames(
    video: np.ndarray, size: tuple[int, int], interpolation: str, antialias: bool
) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) -> uint8 (T, *size, 3); pixel centres are aligned.

    ``antialias`` has no meaning for nearest and is not looked at there. Bicubic is computed in
    float32 and rounded once: torch's kernel for bytes also rounds and clips between columns and
    rows, and what overshoots there is lost.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)
    if interpolation == "bicubic":
        pixels = resize_pixels(pixels.float(), size, interpolation, antialias)
        pixels = pixels.round_().clamp_(0, 255).byte()
    else:
        pixels = resize_pixels(pixels, size, interpolation, antialias)
    return pixels.permute(0, 2, 3, 1).numpy()


def resize_pixels(
    pixels: torch.Tensor, size: tuple[int, int], interpolation: str, antialias: bool
) -> torch.Tensor:
    """Pictures (n, 3, H, W) -> (n, 3, *size), of the same type; bicubic may overshoot if float."""
    if interpolation == "nearest":
        return F.interpolate(pixels, size, mode="nearest-exact")
    return F.interpolate(pixels, size, mode=interpolation, antialias=antialias)


def nearest_resize(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (..., H, W) -> (..., *size): each pixel takes the id under its centre."""
    (H, W), (h, w) = labels.shape[-2:], size
    if (H, W) == (h, w):
        return labels
    rows = ((np.arange(h) + 0.5) * H / h).astype(np.int64)
    columns = ((np.arange(w) + 0.5) * W / w).astype(np.int64)
    return labels[..., rows[:, None], columns]


def cut_boxes(boxes: np.ndarray, frame: tuple[int, int], window: Window) -> np.ndarray:
    """Boxes (T, M, 4) in fractions of the frame -> fractions of the window.

    What lies outside is cut off; a box of which nothing is left becomes zeros, as an absent one is.
    """
    size = np.array([*frame, *frame], dtype=np.float64)
    offset = np.array([window.top, window.left] * 2)
    extent = np.array([window.height, window.width] * 2)
    moved = np.clip((boxes * size[[0, 1, 0, 1]] - offset) / extent, 0.0, 1.0)
    empty = (moved[..., 2] <= moved[..., 0]) | (moved[..., 3] <= moved[..., 1])
    moved[empty] = 0.0
    return moved.astype(np.float32)


def move_points(
    points: np.ndarray, frame: tuple[int, int], window: Window | None, size: tuple[int, int] | None
) -> np.ndarray:
    """Points (..., 2), x y in pixels of frames (H, W), after a cut and a scale; None = left out.

    Pixel centres are whole numbers. A point outside the window keeps a place outside the new frame;
    NaN stays NaN.
    """
    moved = np.array(points, dtype=np.float64)
    if window is not None:
        moved -= (window.left, window.top)
        frame = (window.height, window.width)
    if size is not None:
        scale = np.array([size[1] / frame[1], size[0] / frame[0]])
        moved = (moved + 0.5) * scale - 0.5
    return moved


def refuse_pictures(hints: dict[str, np.ndarray], frame: tuple[int, int], what: str) -> None:
    """Stop where a hint is a picture of its own, whose values a cut or scale would falsify.

    Raises:
        ConfigError: names the hint and the transform ``what``.
    """
    for name, value in hints.items():
        known = name in ("boxes", "keypoints")
        if not known and value.ndim > 2 and value.shape[1:3] == frame:
            raise ConfigError(
                f"dataset.transform: {what} cannot move the hint {name!r} of shape {value.shape}; "
                "leave that transform or that hint out"
            )


def refuse_mirrored_points(hints: Iterable[str], where: str) -> None:
    """Stop before a mirror image of named joints: a left hand would become a right one.

    Raises:
        ConfigError: there are keypoints; ``where`` is the configuration key of the mirror.
    """
    if "keypoints" in hints:
        raise ConfigError(
            f"{where}: HorizontalFlip would turn left joints into right ones, and which ones "
            f"belong together is not known; leave it out ({where}=[] or without HorizontalFlip)"
        )


def move_hints(
    hints: dict[str, np.ndarray],
    frame: tuple[int, int],
    window: Window | None,
    size: tuple[int, int] | None,
    what: str,
) -> dict[str, np.ndarray]:
    """Hints after frames (H, W) were cut to ``window`` and scaled to ``size``; None = left out.

    Raises:
        ConfigError: see ``refuse_pictures``.
    """
    refuse_pictures(hints, frame, what)
    moved = dict(hints)
    if window is not None and "boxes" in hints:
        moved["boxes"] = cut_boxes(hints["boxes"], frame, window)
    if "keypoints" in hints:
        moved["keypoints"] = move_points(hints["keypoints"], frame, window, size)
    return moved


def cut_and_scale(
    clip: RawClip,
    window: Window | None,
    size: tuple[int, int] | None,
    interpolation: str,
    antialias: bool,
    what: str,
) -> RawClip:
    """Cut every frame to ``window``, then scale to ``size``; None leaves that step out.

    Labels of another size than the frames are brought to the frames' size first, so that both stay
    aligned; they are scaled by nearest neighbour.

    Raises:
        ConfigError: see ``refuse_pictures``.
    """
    video, labels = clip.video, clip.labels
    frame = (video.shape[1], video.shape[2])
    if labels is not None:
        labels = nearest_resize(labels, frame)
    if window is not None:
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        video = video[:, rows, columns]
        labels = None if labels is None else labels[:, rows, columns]
    if size is not None and video.shape[1:3] != size:
        video = resize_frames(video, size, interpolation, antialias)
        labels = None if labels is None else nearest_resize(labels, size)
    hints = move_hints(clip.hints, frame, window, size, what)
    return clip._replace(video=video, labels=labels, hints=hints)
