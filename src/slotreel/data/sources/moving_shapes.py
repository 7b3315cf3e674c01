"""`moving_shapes`: generated videos of textured shapes, with exact masks, boxes and visibility.

Nothing is stored: a video is a function of (settings, seed, split, index), a frame of that and its
number. Workers, processes and the choice of frames cannot change a byte.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from slotreel.data.shape_render import describe, render
from slotreel.data.shape_scene import PALETTES, Scene, SceneSettings, sample_scene
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip, VideoInfo

SPLITS = ("train", "validation", "test")
LEVELS = {
    "plain": SceneSettings(
        min_objects=2, max_objects=4, palette="distinct", texture=0.2, texture_frequency=4.0,
        min_radius=0.15, max_radius=0.24, speed=0.08, acceleration=0.5, rotation=0.15,
        scale_change=0.15, exit_probability=0.3, background_speed=0.0, lighting=0.0,
    ),
    "easy": SceneSettings(
        min_objects=2, max_objects=4, palette="tones", texture=1.0, texture_frequency=9.0,
        min_radius=0.15, max_radius=0.24, speed=0.08, acceleration=0.5, rotation=0.15,
        scale_change=0.15, exit_probability=0.3, background_speed=0.0, lighting=0.0,
    ),
    "hard": SceneSettings(
        min_objects=3, max_objects=8, palette="shared", texture=0.8, texture_frequency=5.0,
        min_radius=0.08, max_radius=0.20, speed=0.06, acceleration=0.8, rotation=0.25,
        scale_change=0.35, exit_probability=0.5, background_speed=0.03, lighting=0.25,
    ),
}  # fmt: skip
_FRACTIONS = ("texture", "acceleration", "exit_probability", "lighting")
_NOT_NEGATIVE = ("texture_frequency", "speed", "rotation", "scale_change", "background_speed")


class MovingShapes(VideoSource):
    """Endless generated video for object discovery.

    `level` sets every argument that is left at None; any argument given overrides its preset:
    "plain" has 2 to 4 objects of distinct colours on a dull, still background, which k-means on
    colours solves; "easy" has 2 to 4 objects whose patterns of light and dark defeat it, some of
    the same hue, on a still pattern; "hard" has 3 to 8, drawn with the colours of a moving
    background under changing light. Lengths and speeds are fractions of the frame side, so
    `image_size` changes the resolution and not the scene.

    Args:
        level: "plain", "easy" or "hard".
        num_videos: how many videos this source offers.
        num_frames: frames in each video.
        image_size: height and width, pixels.
        seed: another seed is another data set.
        split: "train", "validation" or "test"; no video belongs to two of them.
        antialias: blend object edges over one pixel; `labels` are hard in either case.
        min_objects: fewest objects in a video.
        max_objects: most objects in a video, also the length M of the hints.
        palette: "distinct" (objects saturated and far apart in hue, background dull), "tones" (a
            light and a dark tone of one of three hues, background nearly grey), "shared" (objects
            and background blend pairs from the same few random colours) or "grey".
        texture: contrast of the surface patterns, 0 (flat) to 1.
        texture_frequency: pattern cycles per frame side.
        min_radius: smallest circumscribed radius of an object, frame sides.
        max_radius: largest one, before `scale_change`.
        speed: largest mean speed, frame sides per frame; each object draws 0.5 to 1 times this.
        acceleration: how far the speed varies around its mean over time, 0 to 1.
        rotation: largest spin, radians per frame.
        scale_change: largest logarithmic change of size over time; 0.35 is a factor of 1.4.
        exit_probability: chance that an object turns back outside the frame and not inside.
        background_speed: largest pan of the background, frame sides per frame.
        lighting: largest relative change of brightness over time, 0 to 1.

    Raises:
        ValueError: a setting is unknown or outside its range.
    """

    def __init__(
        self,
        *,
        level: str = "easy",
        num_videos: int = 16_000,
        num_frames: int = 12,
        image_size: int = 64,
        seed: int = 0,
        split: str = "train",
        antialias: bool = True,
        min_objects: int | None = None,
        max_objects: int | None = None,
        palette: str | None = None,
        texture: float | None = None,
        texture_frequency: float | None = None,
        min_radius: float | None = None,
        max_radius: float | None = None,
        speed: float | None = None,
        acceleration: float | None = None,
        rotation: float | None = None,
        scale_change: float | None = None,
        exit_probability: float | None = None,
        background_speed: float | None = None,
        lighting: float | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "min_objects": min_objects, "max_objects": max_objects, "palette": palette,
            "texture": texture, "texture_frequency": texture_frequency, "min_radius": min_radius,
            "max_radius": max_radius, "speed": speed, "acceleration": acceleration,
            "rotation": rotation, "scale_change": scale_change,
            "exit_probability": exit_probability, "background_speed": background_speed,
            "lighting": lighting,
        }  # fmt: skip
        _check_choice("level", level, tuple(LEVELS))
        _check_choice("split", split, SPLITS)
        for name, value, least in (
            ("num_videos", num_videos, 1), ("num_frames", num_frames, 1),
            ("image_size", image_size, 8), ("seed", seed, 0),
        ):  # fmt: skip
            _check_range(name, value, least, None)
        overrides = {name: value for name, value in given.items() if value is not None}
        self.settings = dataclasses.replace(LEVELS[level], **overrides)
        _check_settings(self.settings)
        self.level, self.split, self.seed = level, split, seed
        self.num_videos, self.num_frames, self.image_size = num_videos, num_frames, image_size
        self.antialias = antialias

    def __len__(self) -> int:
        """Number of videos."""
        return self.num_videos

    def info(self, index: int) -> VideoInfo:
        """Name, length and (height, width) of video `index`."""
        self._check_index(index)
        name = f"{self.level}-{self.split}-{self.seed}-{index:06d}"
        return VideoInfo(name, self.num_frames, (self.image_size, self.image_size))

    def scene(self, index: int) -> Scene:
        """The objects, background and light of video `index`, without drawing anything."""
        self._check_index(index)
        stream = np.random.SeedSequence([self.seed, SPLITS.index(self.split), index])
        return sample_scene(self.settings, np.random.Generator(np.random.PCG64(stream)))

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """Draw the asked frames of one video.

        Args:
            index: which video, 0 to len - 1.
            frames: T frame numbers, any subset in any order.

        Returns:
            The clip; hints are "boxes" (T, M, 4) and "visibility" (T, M) with M = `max_objects`,
            entry m for label m + 1, zero where the object is absent or out of sight.

        Raises:
            IndexError: no such video or frame.
        """
        scene = self.scene(index)
        numbers = np.asarray(frames, dtype=np.int64).reshape(-1)
        if numbers.size and not (0 <= numbers.min() and numbers.max() < self.num_frames):
            raise IndexError(
                f"moving_shapes: video {index} has frames 0 to {self.num_frames - 1}, asked for "
                f"{numbers.tolist()}; raise dataset num_frames or ask for fewer"
            )
        video, labels, areas = render(scene, numbers, self.image_size, self.antialias)
        hints = describe(labels, areas, self.settings.max_objects)
        return RawClip(video, labels, numbers, hints)

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.num_videos:
            raise IndexError(
                f"moving_shapes: expected a video index from 0 to {self.num_videos - 1}, got "
                f"{index}; raise num_videos to have more"
            )


def _check_settings(settings: SceneSettings) -> None:
    """Refuse settings no scene can be drawn from."""
    _check_choice("palette", settings.palette, PALETTES)
    for name in _FRACTIONS:
        _check_range(name, getattr(settings, name), 0, 1)
    for name in _NOT_NEGATIVE:
        _check_range(name, getattr(settings, name), 0, None)
    _check_range("min_objects", settings.min_objects, 1, settings.max_objects)
    _check_range("max_objects", settings.max_objects, settings.min_objects, 254)
    _check_range("min_radius", settings.min_radius, 0.02, settings.max_radius)
    _check_range("max_radius", settings.max_radius, settings.min_radius, 0.5)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        close = [k for k in known if k.startswith(str(value))]
        close += difflib.get_close_matches(str(value), known, n=1)
        raise ValueError(
            f"moving_shapes: expected {name} to be one of {', '.join(known)}, got {value!r}; "
            f"type {name}={(close or known)[0]}"
        )


def _check_range(name: str, value: float, low: float, high: float | None) -> None:
    if not low <= value <= (math.inf if high is None else high):
        wanted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(
            f"moving_shapes: expected {name} {wanted}, got {value}; "
            f"type {name}={low if value < low else high}"
        )
