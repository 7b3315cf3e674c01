"""What is in a generated scene, and where it is at time t: numbers only, no pixels.

A scene is drawn once from a random generator. Everything that changes with time is a pure function
of (scene, t), so any frame can be computed alone, and quantities that need two frames (optical
flow) can be derived from the poses at both.

Lengths and positions are fractions of the frame side, times are in frames, angles in radians.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

KINDS = ("disk", "ellipse", "square", "bar", "triangle", "cross", "star")
PALETTES = ("distinct", "tones", "shared", "grey")
NUM_HUES = 3  # of which each object of palette "tones" takes one, so that some share it
NUM_WAVES = 3  # sinusoids that make one texture


@dataclass(frozen=True)
class SceneSettings:
    """The ranges scenes are drawn from; every field is an argument of `MovingShapes`."""

    min_objects: int
    max_objects: int
    palette: str
    texture: float
    texture_frequency: float
    min_radius: float
    max_radius: float
    speed: float
    acceleration: float
    rotation: float
    scale_change: float
    exit_probability: float
    background_speed: float
    lighting: float


class Surface(NamedTuple):
    """Two colours and the pattern that blends them."""

    base: np.ndarray  # (3,) RGB in [0, 1]
    other: np.ndarray  # (3,) RGB in [0, 1], reached where the pattern is 1 and strength is 1
    strength: float  # in [0, 1]
    waves: np.ndarray  # (NUM_WAVES, 2) wave vectors (x, y), radians per frame side
    phases: np.ndarray  # (NUM_WAVES,)
    weights: np.ndarray  # (NUM_WAVES,) sums to 1
    sharpness: float  # 0.5 is a soft wave, large values give hard stripes and spots


class Shape(NamedTuple):
    """One object: its outline, its surface and the constants of its path."""

    kind: str
    surface: Surface
    radius: float  # circumscribed radius at scale 1
    start: np.ndarray  # (2,) centre (x, y) at t = 0
    velocity: np.ndarray  # (2,) mean velocity per frame before any turn
    turn: np.ndarray  # (2,) lowest and highest centre coordinate, where the path turns back
    acceleration: float  # speed varies between (1 - acceleration) and (1 + acceleration) times mean
    period: np.ndarray  # (2,) frames per speed oscillation along x and y
    phase: np.ndarray  # (2,)
    angle: float
    spin: float  # radians per frame
    scale_change: float  # scale varies between exp(-scale_change) and exp(scale_change)
    scale_period: float
    scale_phase: float


class Scene(NamedTuple):
    """All objects with their depth order, the background and the light."""

    shapes: tuple[Shape, ...]  # shapes[i] carries label i + 1
    order: tuple[int, ...]  # indices into shapes, farthest first
    background: Surface
    background_velocity: np.ndarray  # (2,) frame sides per frame
    lighting: float  # largest relative change of brightness
    light_period: float
    light_phases: np.ndarray  # (3,) one per colour channel, close to each other


class Pose(NamedTuple):
    """Where an object is in each of T frames."""

    centre: np.ndarray  # (T, 2) x, y
    radius: np.ndarray  # (T,)
    angle: np.ndarray  # (T,)


class _Tones(NamedTuple):
    """Ranges a light and a dark tone are drawn from, in [0, 1]."""

    light_saturation: tuple[float, float]
    light_value: tuple[float, float]
    dark_saturation: tuple[float, float]
    dark_value: tuple[float, float]


# Light against dark is a larger step than one object against another, or against the ground.
_OBJECT = _Tones((0.6, 0.85), (0.85, 1.0), (0.9, 1.0), (0.25, 0.4))
_GROUND = _Tones((0.05, 0.09), (0.7, 0.85), (0.13, 0.15), (0.4, 0.55))


def pose(shape: Shape, times: np.ndarray) -> Pose:
    """Pose of one object at any times (T,), float64, in any order."""
    t = times[:, None]
    pace = 2 * np.pi / shape.period
    wobble = (np.sin(pace * t + shape.phase) - np.sin(shape.phase)) * shape.acceleration / pace
    path = shape.start + shape.velocity * (t + wobble)
    low, high = shape.turn
    span = high - low
    centre = high - np.abs(np.mod(path - low, 2 * span) - span)  # a triangle wave: turn at the ends
    breath = np.sin(2 * np.pi * times / shape.scale_period + shape.scale_phase)
    return Pose(
        centre, shape.radius * np.exp(shape.scale_change * breath), shape.angle + shape.spin * times
    )


def largest_radius(shape: Shape) -> float:
    """The radius no frame exceeds."""
    return shape.radius * float(np.exp(shape.scale_change))


def light(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Brightness factor (T, 3) of every colour channel at times (T,)."""
    pace = 2 * np.pi / scene.light_period
    gains: np.ndarray = 1 + scene.lighting * np.sin(pace * times[:, None] + scene.light_phases)
    return gains


def sample_scene(settings: SceneSettings, rng: np.random.Generator) -> Scene:
    """Draw one scene; the same generator state gives the same scene."""
    count = int(rng.integers(settings.min_objects, settings.max_objects + 1))
    colours = _sample_colours(settings.palette, count, rng)
    surfaces = [_sample_surface(settings, base, other, rng) for base, other in colours]
    starts: list[np.ndarray] = []
    shapes = []
    for surface in surfaces[1:]:
        starts.append(_sample_start(starts, rng))
        shapes.append(_sample_shape(settings, surface, starts[-1], rng))
    heading = rng.uniform(0, 2 * np.pi)
    return Scene(
        shapes=tuple(shapes),
        order=tuple(int(i) for i in rng.permutation(count)),
        background=surfaces[0],
        background_velocity=_unit(heading) * settings.background_speed * rng.uniform(0.5, 1.0),
        lighting=settings.lighting * rng.uniform(0.5, 1.0),
        light_period=rng.uniform(12, 36),
        light_phases=rng.uniform(0, 2 * np.pi) + rng.uniform(-0.5, 0.5, size=3),
    )


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


def _sample_start(taken: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Of eight random centres the one farthest from those taken: few scenes start as one heap."""
    candidates = rng.uniform(0.15, 0.85, size=(8, 2))
    if not taken:
        first: np.ndarray = candidates[0]
        return first
    distances = np.abs(candidates[:, None] - np.stack(taken)).max(-1).min(-1)
    best: np.ndarray = candidates[int(distances.argmax())]
    return best


def _sample_shape(
    settings: SceneSettings, surface: Surface, start: np.ndarray, rng: np.random.Generator
) -> Shape:
    radius = rng.uniform(settings.min_radius, settings.max_radius)
    scale_change = settings.scale_change * rng.uniform(0.3, 1.0)
    # A path that exits turns back beyond the border, where nothing of the object can be seen.
    reach = radius * float(np.exp(scale_change))
    margin = -1.4 * reach if rng.random() < settings.exit_probability else 0.5 * reach
    return Shape(
        kind=KINDS[int(rng.integers(len(KINDS)))],
        surface=surface,
        radius=radius,
        start=start,
        velocity=_unit(rng.uniform(0, 2 * np.pi)) * settings.speed * rng.uniform(0.5, 1.0),
        turn=np.array([margin, 1 - margin]),
        acceleration=settings.acceleration,
        period=rng.uniform(10, 30, size=2),
        phase=rng.uniform(0, 2 * np.pi, size=2),
        angle=rng.uniform(0, 2 * np.pi),
        spin=settings.rotation * rng.uniform(-1, 1),
        scale_change=scale_change,
        scale_period=rng.uniform(12, 36),
        scale_phase=rng.uniform(0, 2 * np.pi),
    )


def _sample_surface(
    settings: SceneSettings, base: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> Surface:
    directions = rng.uniform(0, np.pi) + np.array([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    cycles = settings.texture_frequency * rng.uniform(0.5, 1.5, size=(NUM_WAVES, 1))
    weights = rng.dirichlet(np.ones(NUM_WAVES))  # from stripes (one wave wins) to spots (a mix)
    return Surface(
        base=base,
        other=other,
        strength=settings.texture,
        waves=2 * np.pi * cycles * np.stack([np.cos(directions), np.sin(directions)], axis=-1),
        phases=rng.uniform(0, 2 * np.pi, size=NUM_WAVES),
        weights=weights,
        sharpness=float(np.exp(rng.uniform(np.log(0.6), np.log(4.0)))),
    )


def _sample_colours(
    palette: str, count: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(base, other) of the background, then of `count` objects."""
    if palette == "distinct":
        dull = _hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.15, 0.85))
        pairs = [(dull, np.clip(dull + rng.choice([-1, 1]) * 0.5, 0, 1))]
        first = rng.random()
        for i in range(count):
            hue = first + (i + rng.uniform(-0.2, 0.2)) / count
            saturation, value = rng.uniform(0.75, 1.0), rng.uniform(0.75, 1.0)
            second = _hsv(hue + rng.uniform(-0.06, 0.06), saturation, 0.3 * value)
            pairs.append((_hsv(hue, saturation, value), second))
        return pairs
    if palette == "tones":
        first = rng.random()
        hues = first + (np.arange(NUM_HUES) + rng.uniform(-0.15, 0.15, NUM_HUES)) / NUM_HUES
        ground = _tones(rng.random(), _GROUND, rng)
        drawn = (float(hues[rng.integers(NUM_HUES)]) for _ in range(count))
        return [ground, *(_tones(hue, _OBJECT, rng) for hue in drawn)]
    if palette == "shared":  # every surface blends two of the same few colours
        colours = rng.random((count + 2, 3))
        picks = [rng.choice(count + 2, size=2, replace=False) for _ in range(count + 1)]
        return [(colours[a], colours[b]) for a, b in picks]
    return [(np.full(3, a), np.full(3, b)) for a, b in rng.random((count + 1, 2))]


def _tones(hue: float, ranges: _Tones, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A light and a dark tone of one hue, in random order."""
    light = _hsv(hue, rng.uniform(*ranges.light_saturation), rng.uniform(*ranges.light_value))
    dark = _hsv(hue, rng.uniform(*ranges.dark_saturation), rng.uniform(*ranges.dark_value))
    return (light, dark) if rng.random() < 0.5 else (dark, light)


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
