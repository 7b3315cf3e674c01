"""How a protocol shows frames to a model, and at which size it compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slotreel.data.geometry import parse_interpolation
from slotreel.errors import ConfigError, nearest
from slotreel.streaming import as_size
from slotreel.types import RawClip

CROPS = ("whole", "centre_square")
COMPARE = ("truth", "model")
Size = tuple[int, int]


class Framing(NamedTuple):
    """Cut, size and interpolation of frames, and the size at which label maps are compared.

    Made by ``parse_framing``, which checks the values.
    """

    image_size: Size | None  # what the model sees; None = what the model asks for
    interpolation: str
    antialias: bool
    crop: str  # whole | centre_square
    compare: str  # truth = size of the label maps; model = size the model sees

    def cut(self, clip: RawClip) -> RawClip:
        """The part of the frames and label maps that is looked at.

        Raises:
            ConfigError: if keypoints would have to move with the cut.
        """
        if self.crop == "whole":
            return clip
        if clip.labels is None and clip.hints:
            raise ConfigError("crop=centre_square moves no keypoints; type crop=whole")
        labels = None if clip.labels is None else centre_square(clip.labels)
        return clip._replace(video=centre_square(clip.video), labels=labels, hints={})

    def seen(self, frame: Size) -> Size:
        """Size of what is left of frames (H, W) after the cut."""
        side = min(frame)
        return frame if self.crop == "whole" else (side, side)

    def compared_at(self, truth: Size, model: Size) -> Size:
        """Size of both label maps when they are compared."""
        return truth if self.compare == "truth" else model

    def describe(self, otherwise: str) -> str:
        """Cut, size and interpolation in words; ``otherwise``: the size where none is fixed."""
        seen = self.image_size
        pixels = f"{seen[0]}x{seen[1]} px" if seen else otherwise
        cut = "" if self.crop == "whole" else "centre square, "
        how = self.interpolation + (", antialias" if self.antialias else ", no antialias")
        where = "the size of the truth" if self.compare == "truth" else "the size the model sees"
        return f"{cut}model sees {pixels} ({how}); soft masks bilinear to {where}, then argmax" + (
            "" if self.compare == "truth" else ", truth to the nearest pixel"
        )


def parse_framing(
    image_size: int | Sequence[int] | None,
    interpolation: str,
    antialias: bool,
    crop: str,
    compare: str,
) -> Framing:
    """Settings of a protocol as a ``Framing``.

    Raises:
        ConfigError: a value is none of its options.
    """
    for key, value, known in (("crop", crop, CROPS), ("compare", compare, COMPARE)):
        if value not in known:
            raise ConfigError(f"{key}={value} is unknown; {nearest(value, known)}")
    size = None if image_size is None else as_size(image_size)
    return Framing(size, parse_interpolation(interpolation), antialias, crop, compare)


def centre_square(images: np.ndarray) -> np.ndarray:
    """The largest centred square of (T, H, W, ...); the odd pixel goes as Python rounds."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return images[:, top : top + side, left : left + side]
