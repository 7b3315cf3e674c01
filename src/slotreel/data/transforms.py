"""Options of ``dataset.transform``: fn(clip, rng) -> clip, the same geometry for all frames.

Pixels stay uint8. Labels, boxes and keypoints move with them. A class that draws nothing says
``deterministic = True``, so that features of its frames can be stored. Example:

    transform:
      - {_target_: slotreel.data.transforms.ResizeShortSide, size: 256}
      - {_target_: slotreel.data.transforms.RandomCrop, size: 224}
      - {_target_: slotreel.data.transforms.HorizontalFlip}
"""

from __future__ import annotations

import math

import numpy as np

from slotreel.data.geometry import (
    Window,
    cut_and_scale,
    parse_interpolation,
    parse_size,
    refuse_mirrored_points,
    refuse_pictures,
)
from slotreel.errors import ConfigError, DataError, nearest
from slotreel.types import RawClip

_PLAIN = "bilinear"  # of windows, which are not scaled


class Resize:
    """Scale to exactly ``size``; the aspect ratio changes if it must.

    Args:
        size: one number or (H, W), pixels.
        interpolation: nearest, bilinear or bicubic, for pixels; labels always take the nearest.
        antialias: low-pass before shrinking.

    Raises:
        ConfigError: an argument is outside its range.
    """

    deterministic = True

    def __init__(
        self,
        size: int | tuple[int, int],
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        self.size, self.antialias = parse_size(size), antialias
        self.interpolation = parse_interpolation(interpolation)

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Scale a clip."""
        if clip.video.shape[1:3] == self.size and clip.labels is None:
            return clip
        return cut_and_scale(clip, None, self.size, self.interpolation, self.antialias, "Resize")


class ResizeShortSide:
    """Scale so that the shorter side has ``size`` pixels; keeps the aspect ratio to a pixel.

    Args:
        size: shorter side, pixels.
        interpolation: nearest, bilinear or bicubic, for pixels; labels always take the nearest.
        antialias: low-pass before shrinking.
        long_side: rounded to the ``nearest`` pixel, or ``down`` (SlotContrast, VideoSAUR).

    Raises:
        ConfigError: an argument is outside its range.
    """

    deterministic = True

    def __init__(
        self,
        size: int,
        interpolation: str = "bilinear",
        antialias: bool = True,
        long_side: str = "nearest",
    ) -> None:
        if long_side not in ("nearest", "down"):
            raise ConfigError(f"long_side={long_side}: {nearest(long_side, ('nearest', 'down'))}")
        self.size, self.antialias = parse_size(size)[0], antialias
        self.interpolation, self.down = parse_interpolation(interpolation), long_side == "down"

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Scale a clip."""
        H, W = clip.video.shape[1:3]
        long = max(H, W) * self.size / min(H, W)
        long = math.floor(long) if self.down else round(long)
        size = (self.size, long) if H <= W else (long, self.size)
        return cut_and_scale(
            clip, None, size, self.interpolation, self.antialias, "ResizeShortSide"
        )


class CenterCrop:
    """Cut ``size`` out of the middle.

    Args:
        size: one number or (H, W), pixels.

    Raises:
        ConfigError: ``size`` is not above 0.
    """

    deterministic = True

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = parse_size(size)

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Cut a clip; DataError if its frames are smaller."""
        spare = _spare(clip, self.size, "CenterCrop")
        window = Window(spare[0] // 2, spare[1] // 2, *self.size)
        return cut_and_scale(clip, window, None, _PLAIN, True, "CenterCrop")


class RandomCrop:
    """Cut ``size`` out at a random place.

    Args:
        size: one number or (H, W), pixels.

    Raises:
        ConfigError: ``size`` is not above 0.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = parse_size(size)

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Cut a clip; DataError if its frames are smaller."""
        spare = _spare(clip, self.size, "RandomCrop")
        window = Window(
            int(rng.integers(spare[0] + 1)), int(rng.integers(spare[1] + 1)), *self.size
        )
        return cut_and_scale(clip, window, None, _PLAIN, True, "RandomCrop")


class RandomResizedCrop:
    """Cut a random share of the frame at a random aspect ratio, then scale to ``size``.

    Area uniform in ``scale``, aspect ratio log-uniform in ``ratio``. A shape that does not fit the
    frame is drawn anew, ten times; after that, the largest centred window of an allowed ratio.

    Args:
        size: one number or (H, W), pixels.
        scale: smallest and largest share of the frame's area.
        ratio: smallest and largest width / height of the window.
        interpolation: nearest, bilinear or bicubic, for pixels; labels always take the nearest.
        antialias: low-pass before shrinking.

    Raises:
        ConfigError: an argument is outside its range.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"scale={scale}: expected 0 < smallest <= largest <= 1")
        if not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(f"ratio={ratio}: expected 0 < smallest <= largest")
        self.size, self.antialias = parse_size(size), antialias
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])
        self.interpolation = parse_interpolation(interpolation)

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Cut and scale a clip."""
        H, W = clip.video.shape[1:3]
        window = self._window(H, W, rng)
        return cut_and_scale(
            clip, window, self.size, self.interpolation, self.antialias, "RandomResizedCrop"
        )

    def _window(self, H: int, W: int, rng: np.random.Generator) -> Window:
        for _ in range(10):
            area = H * W * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= H and 0 < w <= W:
                return Window(int(rng.integers(H - h + 1)), int(rng.integers(W - w + 1)), h, w)
        ratio = min(max(W / H, self.ratio[0]), self.ratio[1])
        h, w = min(H, max(1, round(W / ratio))), min(W, max(1, round(H * ratio)))
        return Window((H - h) // 2, (W - w) // 2, h, w)


class HorizontalFlip:
    """Mirror left and right, all frames or none; clips with keypoints are refused.

    Args:
        p: chance, 0 to 1.

    Raises:
        ConfigError: ``p`` is outside 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"p={p}: expected a chance from 0 to 1")
        self.p = p

    def __call__(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        """Mirror a clip, or not."""
        H, W = clip.video.shape[1:3]
        refuse_pictures(clip.hints, (H, W), "HorizontalFlip")
        refuse_mirrored_points(clip.hints, "dataset.transform")
        if rng.random() >= self.p:
            return clip
        hints = dict(clip.hints)
        if "boxes" in hints:
            hints["boxes"] = mirror_boxes(hints["boxes"])
        labels = None if clip.labels is None else clip.labels[:, :, ::-1]
        return clip._replace(video=clip.video[:, :, ::-1], labels=labels, hints=hints)


def mirror_boxes(boxes: np.ndarray) -> np.ndarray:
    """Boxes (..., 4) of the mirrored frame; absent ones stay zeros."""
    mirrored = boxes.copy()
    mirrored[..., 1], mirrored[..., 3] = 1 - boxes[..., 3], 1 - boxes[..., 1]
    mirrored[(boxes == 0).all(-1)] = 0
    return mirrored


def _spare(clip: RawClip, size: tuple[int, int], what: str) -> tuple[int, int]:
    """Rows and columns left over by a window of ``size``."""
    H, W = clip.video.shape[1:3]
    if size[0] > H or size[1] > W:
        raise DataError(
            f"dataset.transform: {what} of {size[0]} x {size[1]} does not fit frames of {H} x {W}; "
            "put a ResizeShortSide before it or choose a smaller size"
        )
    return H - size[0], W - size[1]
