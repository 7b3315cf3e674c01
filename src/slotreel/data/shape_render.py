"""Draw a `Scene`: pixels, labels and the size of every object, all frames at once.

Every step is elementwise arithmetic or a reduction inside one frame, so a frame comes out the same
whichever frames are drawn beside it.
"""

from __future__ import annotations

import numpy as np

from slotreel.data.shape_scene import Scene, Shape, Surface, largest_radius, light, pose

_ANGLES = np.deg2rad([90.0, 210.0, 330.0])
_NORMALS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1).astype(np.float32)


def render(
    scene: Scene, times: np.ndarray, size: int, antialias: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw frames of a scene.

    Args:
        scene: what to draw.
        times: (T,) int64 frame numbers.
        size: height and width, pixels.
        antialias: blend object edges over one pixel.

    Returns:
        video (T, size, size, 3) uint8; labels (T, size, size) uint8, shape i as i + 1; areas
        (T, len(shapes)) int64, pixels of each object including hidden and outside ones.
    """
    moments = times.astype(np.float64)
    windows = [_window(shape, size) for shape in scene.shapes]
    pad = max(windows)  # objects may lie outside by their own size: draw on a larger sheet
    side = size + 2 * pad
    frame = np.s_[..., pad : pad + size, pad : pad + size]
    sheet = np.zeros((len(times), 3, side, side), np.float32)  # channels first: long inner loops
    sheet[frame] = _background(scene, moments, size)
    labels = np.zeros((len(times), side, side), np.uint8)
    areas = np.zeros((len(times), len(scene.shapes)), np.int64)
    for i in scene.order:
        corner, cover, colour = _draw(scene.shapes[i], moments, size, windows[i], antialias)
        inside = cover >= 0.5
        areas[:, i] = inside.sum((1, 2))
        paint, keep = colour * cover[:, None], (1 - cover)[:, None]
        corner = np.clip(corner + pad, 0, side - windows[i])
        for t, (x, y) in enumerate(corner.tolist()):
            place = np.s_[t, ..., y : y + windows[i], x : x + windows[i]]
            np.multiply(sheet[place], keep[t], out=sheet[place])
            np.add(sheet[place], paint[t], out=sheet[place])
            np.copyto(labels[place], np.uint8(i + 1), where=inside[t])
    pixels = sheet[frame]
    if scene.lighting:
        pixels = pixels * light(scene, moments).astype(np.float32)[..., None, None]
    return _to_bytes(pixels), np.ascontiguousarray(labels[frame]), areas


def describe(labels: np.ndarray, areas: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Boxes and visible fractions of the objects 1..count.

    Args:
        labels: (T, H, W) uint8.
        areas: (T, N) full areas in pixels, N <= count.
        count: M, entries per frame; those of absent objects stay zero.

    Returns:
        "boxes" (T, M, 4) float32 (ymin, xmin, ymax, xmax) of the visible part, fractions of the
        frame, upper ends exclusive; "visibility" (T, M) float32, visible share of the full area.
    """
    (num_frames, height, width), num_objects = labels.shape, areas.shape[1]
    masks = labels[:, None] == np.arange(1, num_objects + 1, dtype=np.uint8)[:, None, None]
    rows, columns = masks.any(3), masks.any(2)  # (T, N, H), (T, N, W)
    seen = rows.any(2)
    ends = (
        rows.argmax(2) / height,
        columns.argmax(2) / width,
        1 - rows[..., ::-1].argmax(2) / height,
        1 - columns[..., ::-1].argmax(2) / width,
    )
    boxes = np.zeros((num_frames, count, 4), np.float32)
    boxes[:, :num_objects] = np.stack(ends, axis=-1) * seen[..., None]
    visibility = np.zeros((num_frames, count), np.float32)
    visibility[:, :num_objects] = masks.sum((2, 3)) / np.maximum(areas, 1)
    return {"boxes": boxes, "visibility": visibility}


def _window(shape: Shape, size: int) -> int:
    """Side of the square, pixels, that holds the object in every frame."""
    return 2 * int(np.ceil(largest_radius(shape) * size)) + 3


def _draw(
    shape: Shape, moments: np.ndarray, size: int, window: int, antialias: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window corners (T, 2) x, y; cover (T, S, S) float32 in [0, 1]; colour (T, 3, S, S)."""
    centre, radius, angle = pose(shape, moments)
    corner = np.floor(centre * size).astype(np.int64) - window // 2
    grid = corner[:, :, None] + np.arange(window) + 0.5  # pixel centres, (T, 2, S)
    offset = (grid / size - centre[..., None]) / radius[:, None, None]
    dx, dy = offset[:, 0, None, :], offset[:, 1, :, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)
    edge = _distance(shape.kind, x, y) * (radius * size).astype(np.float32)[:, None, None]
    cover = np.clip(0.5 - edge, 0, 1) if antialias else (edge <= 0).astype(np.float32)
    return corner, cover, _colour(shape.surface, x * shape.radius, y * shape.radius)


def _background(scene: Scene, moments: np.ndarray, size: int) -> np.ndarray:
    """(T or 1, 3, size, size) float32; one frame if the background stands still."""
    if not scene.background_velocity.any():
        moments = moments[:1]
    start = moments[:, None] * scene.background_velocity  # (T, 2)
    grid = (start[..., None] + (np.arange(size) + 0.5) / size).astype(np.float32)  # (T, 2, size)
    shape = (len(moments), size, size)
    x, y = np.broadcast_to(grid[:, 0, None, :], shape), np.broadcast_to(grid[:, 1, :, None], shape)
    return _colour(scene.background, x, y)


def _colour(surface: Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours (T, 3, h, w) of a surface at positions (T, h, w) in frame sides."""
    base = surface.base.astype(np.float32)[:, None, None]
    if not surface.strength:
        return np.broadcast_to(base, (len(x), 3, *x.shape[1:]))
    field = np.float32(0)
    for (wx, wy), phase, weight in zip(
        surface.waves.astype(np.float32),
        surface.phases.astype(np.float32),
        surface.weights.astype(np.float32),
        strict=True,
    ):
        field = field + weight * np.sin(wx * x + wy * y + phase)
    blend = np.clip(0.5 + np.float32(surface.sharpness) * field, 0, 1) * surface.strength
    step = (surface.other - surface.base).astype(np.float32)[:, None, None]
    out: np.ndarray = base + blend[:, None] * step
    return out


def _distance(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline, negative inside, circumscribed radius about 1.

    Exact near straight edges and circles, close to it along an ellipse.
    """
    distance: np.ndarray
    u, v = np.abs(x), np.abs(y)
    match kind:
        case "disk":
            distance = np.sqrt(x * x + y * y) - 0.9
        case "ellipse":
            distance = (np.sqrt(x * x + (y / 0.6) ** 2) - 1) * 0.75
        case "square":
            distance = np.maximum(u, v) - 0.7
        case "bar":
            distance = np.maximum(u - 0.9, v - 0.42)
        case "triangle":
            distance = _triangle(x, y)
        case "cross":
            distance = np.minimum(np.maximum(u - 0.92, v - 0.36), np.maximum(u - 0.36, v - 0.92))
        case "star":
            distance = np.minimum(_triangle(x, y), _triangle(x, -y))
        case _:
            raise ValueError(f"unknown shape kind {kind!r}; add its outline to _distance")
    return distance


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equilateral, circumscribed radius 1: the farthest of three half-planes."""
    a, b, c = (nx * x + ny * y for nx, ny in _NORMALS)
    distance: np.ndarray = np.maximum(np.maximum(a, b), c) - np.float32(0.5)
    return distance


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Floats (T, 3, h, w) in about [0, 1] to uint8 (T, h, w, 3), rounded and saturated."""
    scaled = np.clip(np.rint(pixels * np.float32(255)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1))
