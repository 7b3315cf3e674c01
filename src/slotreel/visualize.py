"""Label maps as pictures and videos; the same object has the same colour in every row.

T frames, H W pixels. Labels: 0 background, slot + 1 or object id otherwise, 255 ignore.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from slotreel.colours import COLOURS, colour_masks, match_colours, overlay
from slotreel.data.geometry import nearest_resize
from slotreel.data.video_write import VideoWriter

__all__ = ["colour_masks", "mask_picture", "mask_video", "match_colours", "overlay"]

SMALL_PX, LARGE_PX = 96, 256  # a cell's shorter side is at least this, its longer at most that
GAP_PX, CAPTION_PX = 3, 13
DIM = 0.75  # brightness of the grey frame under label maps
DARK = 0.15  # brightness of a slot's cell outside the slot
EDGE_PX = 2  # border of a slot's cell


class _Strip:
    """Rows of frames at one cell size: video, truth, predictions with matched colours."""

    def __init__(
        self,
        video: np.ndarray,
        truth: np.ndarray | None,
        predictions: Mapping[str, np.ndarray],
        alpha: float,
        scale: int = 1,
    ) -> None:
        num_frames = len(video)
        maps = ({} if truth is None else {"truth": truth}) | dict(predictions)
        for name, labels in maps.items():
            if labels.ndim != 3 or len(labels) != num_frames or labels.dtype != np.uint8:
                raise ValueError(
                    f"{name}: expected uint8 labels ({num_frames}, H, W) for {num_frames} frames, "
                    f"got {labels.dtype} {labels.shape}"
                )
        self.video, self.alpha = video, alpha
        height, width = _cell(video.shape[1], video.shape[2])
        self.size = (height * scale, width * scale)
        self.rows: dict[str, np.ndarray | None] = {"video": None}
        reference: np.ndarray | None = None
        for name, labels in maps.items():
            labels = nearest_resize(labels, (video.shape[1], video.shape[2]))
            if reference is not None:
                labels = match_colours(labels, reference)
            else:
                reference = labels
            self.rows[name] = nearest_resize(labels, self.size)

    def cell(self, row: str, t: int) -> np.ndarray:
        """One frame of one row, uint8 (*size, 3)."""
        height, width = self.size
        resample = (
            Image.Resampling.NEAREST if height > self.video.shape[1] else Image.Resampling.BOX
        )
        frame = Image.fromarray(self.video[t]).resize((width, height), resample)
        labels = self.rows[row]
        if labels is None:
            return np.asarray(frame)
        grey = np.asarray(frame.convert("L").convert("RGB"))  # so that only slots have a hue
        return overlay((grey * DIM).astype(np.uint8), labels[t], self.alpha)


class _SlotCells:
    """A small cell per slot that owns a pixel: the frame, dark outside the slot, in its colour."""

    def __init__(self, strip: _Strip, row: str, width: int) -> None:
        labels = strip.rows[row]
        assert labels is not None
        self.strip, self.labels = strip, labels
        self.slots = np.unique(labels)
        self.size = (max(1, strip.size[0] // 2), max(1, strip.size[1] // 2))
        self.step = tuple(side + 2 * (EDGE_PX + GAP_PX) for side in self.size)
        self.columns = max(1, width // self.step[1])
        rows = -(-len(self.slots) // self.columns)
        self.shape = (rows * self.step[0], max(width, self.columns * self.step[1]), 3)

    def __call__(self, t: int) -> np.ndarray:
        """The cells of one frame, uint8 (height, width, 3)."""
        page = np.full(self.shape, 255, np.uint8)
        frame = self.strip.cell("video", t)
        for number, slot in enumerate(self.slots):
            light = np.where(self.labels[t] == slot, 1.0, DARK)[..., None]
            cell = Image.fromarray((frame * light).astype(np.uint8))
            cell = cell.resize(self.size[::-1], Image.Resampling.BOX)
            top, left = np.array(divmod(number, self.columns)) * self.step + GAP_PX
            bottom, right = (np.array([top, left]) + self.size + 2 * EDGE_PX).tolist()
            page[top:bottom, left:right] = COLOURS[slot]
            inner = slice(top + EDGE_PX, bottom - EDGE_PX), slice(left + EDGE_PX, right - EDGE_PX)
            page[inner] = np.asarray(cell)
        return page


def _cell(height: int, width: int) -> tuple[int, int]:
    """Size of a cell: small frames enlarged by a whole factor, large ones shrunk."""
    grow = -(-SMALL_PX // min(height, width))
    shrink = min(1.0, LARGE_PX / (max(height, width) * grow))
    return max(1, round(height * grow * shrink)), max(1, round(width * grow * shrink))


def mask_picture(
    video: np.ndarray,
    truth: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    *,
    max_columns: int = 8,
    frames: Sequence[int] | None = None,
    alpha: float = 0.7,
    scale: int = 1,
) -> np.ndarray:
    """Rows: video, truth, each prediction; columns: frames, spread evenly over the clip.

    Label maps lie over the grey frame. Colours follow the truth, without truth the first
    prediction, over the whole clip; grey is background and the slot that matches it best.

    Args:
        video: uint8 (T, H, W, 3).
        truth: uint8 (T, H0, W0) or None.
        predictions: caption -> uint8 (T, H0, W0).
        max_columns: most frames to show.
        frames: which to show instead.
        alpha: weight of the colours.
        scale: everything this much larger, for print.

    Returns:
        uint8 picture (height, width, 3).

    Raises:
        ValueError: if there is no frame or a label map does not fit the video.
    """
    if not len(video):
        raise ValueError("expected a video of at least one frame, got none")
    strip = _Strip(video, truth, predictions, alpha, scale)
    spread = np.unique(np.linspace(0, len(video) - 1, max_columns).round().astype(int))
    columns = spread.tolist() if frames is None else list(frames)
    font, gap, caption = caption_font(scale), GAP_PX * scale, CAPTION_PX * scale
    rows = [np.stack([strip.cell(name, int(t)) for t in columns]) for name in strip.rows]
    margin = max(round(font.getlength(name)) for name in strip.rows) + 3 * gap
    height, width = strip.size
    step_y, step_x = height + gap, width + gap
    picture = np.full((caption + len(rows) * step_y, margin + len(columns) * step_x, 3), 255)
    canvas = Image.fromarray(picture.astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for x, t in enumerate(columns):
        draw.text((margin + x * step_x, 0), str(t), fill=(90, 90, 90), font=font)
    for y, (name, cells) in enumerate(zip(strip.rows, rows, strict=True)):
        top = caption + y * step_y
        middle = top + height // 2
        draw.text((gap, middle), name, fill=(0, 0, 0), font=font, anchor="lm")
        for x, cell in enumerate(cells):
            canvas.paste(Image.fromarray(cell), (margin + x * step_x, top))
    return np.asarray(canvas)


def mask_video(
    path: str | os.PathLike[str],
    video: np.ndarray,
    truth: np.ndarray | None,
    predictions: Mapping[str, np.ndarray],
    *,
    fps: float = 8.0,
    alpha: float = 0.7,
    slots_of: str | None = None,
) -> None:
    """The rows of ``mask_picture`` side by side, as a moving .mp4 or .gif.

    Args:
        path: ends in .mp4 or .gif.
        video: uint8 (T, H, W, 3).
        truth: uint8 (T, H0, W0) or None.
        predictions: caption -> uint8 (T, H0, W0).
        fps: frames per second.
        alpha: weight of the colours.
        slots_of: caption of the prediction whose slots get a cell each below; None for no cells.

    Raises:
        ValueError: if there is no frame, a label map does not fit, or the suffix is another.
    """
    strip = _Strip(video, truth, predictions, alpha)
    cells: _SlotCells | None = None
    with VideoWriter(path, fps) as writer:
        for t in range(len(video)):
            page = _side_by_side([strip.cell(name, t) for name in strip.rows], strip.rows)
            if slots_of is not None:
                cells = cells or _SlotCells(strip, slots_of, page.shape[1])
                below = cells(t)
                wider = ((0, 0), (0, below.shape[1] - page.shape[1]), (0, 0))
                page = np.concatenate([np.pad(page, wider, constant_values=255), below])
            writer.write(page)


def _side_by_side(cells: Sequence[np.ndarray], names: Mapping[str, object]) -> np.ndarray:
    """Cells in one row, captions above; a column is at least as wide as its caption."""
    height, width = cells[0].shape[:2]
    step = max(width, *(round(caption_font().getlength(name)) for name in names)) + 2 * GAP_PX
    canvas = Image.new("RGB", (len(cells) * step, CAPTION_PX + height + 2 * GAP_PX), "white")
    draw = ImageDraw.Draw(canvas)
    for x, (name, cell) in enumerate(zip(names, cells, strict=True)):
        centre = x * step + step // 2
        draw.text((centre, 1), name, fill=(0, 0, 0), font=caption_font(), anchor="mt")
        canvas.paste(Image.fromarray(cell), (centre - width // 2, CAPTION_PX + GAP_PX))
    return np.asarray(canvas)


def caption_font(scale: int = 1) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font of captions."""
    return ImageFont.load_default(size=11 * scale)
