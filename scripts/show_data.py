#!/usr/bin/env python
"""Write a contact sheet of a data set: frames above masks, one video per pair of rows.

    python scripts/show_data.py OUT.png dataset=moving_shapes
    python scripts/show_data.py OUT.png dataset=fbms59 paths.data=DIR --videos 2

Boxes and joints are drawn on the frames. Frames are evenly spread; where only some are annotated,
each gives way to an annotated one nearby. Those that are not annotated are hatched.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from PIL import Image, ImageDraw

from slotreel.assemble import make
from slotreel.colours import colour_masks
from slotreel.data.image_io import write_image
from slotreel.data.stills import StillVideos
from slotreel.errors import UserError
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip
from slotreel.visualize import mask_picture

CONF = Path(__file__).resolve().parents[1] / "conf"
HATCHED = 254  # label of the stripes


def source_of(overrides: list[str]) -> VideoSource:
    """The training source of a configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    return make(cfg.dataset.source)()


def choose(source: VideoSource, index: int, frames: int) -> list[int]:
    """Frames of a video, evenly spread; annotated ones where there is one within half a step."""
    num_frames = source.info(index).num_frames
    spread = np.linspace(0, num_frames - 1, frames)
    known = np.arange(num_frames)
    if isinstance(source, StillVideos):
        known = np.flatnonzero([bool(files) for files in source.videos[index].masks])
    chosen = set()
    for place in spread:
        near = known[np.abs(known - place).argmin()] if len(known) else place
        chosen.add(int(near if abs(near - place) <= num_frames / frames / 2 else round(place)))
    return sorted(chosen)


def draw_hints(clip: RawClip) -> np.ndarray:
    """Frames (T, H, W, 3) with boxes as rectangles and keypoints as dots, one colour each."""
    T, H, W = clip.video.shape[:3]
    boxes = clip.hints.get("boxes", np.zeros((T, 0, 4))) * [H, W, H, W]
    points = clip.hints.get("keypoints", np.zeros((T, 0, 2)))
    size = max(1, min(H, W) // 80)
    drawn = []
    for t, frame in enumerate(clip.video):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        canvas = ImageDraw.Draw(picture)
        for n, (top, left, bottom, right) in enumerate(boxes[t], start=1):
            if bottom > top:
                edge = (left, top, right - 1, bottom - 1)
                canvas.rectangle(edge, outline=_colour(n), width=size)
        for n, (x, y) in enumerate(points[t], start=1):
            if np.isfinite([x, y]).all():
                canvas.ellipse((x - size, y - size, x + size, y + size), fill=_colour(n))
        drawn.append(np.asarray(picture))
    return np.stack(drawn)


def _colour(number: int) -> tuple[int, ...]:
    return tuple(colour_masks(np.array([[number % HATCHED]]))[0, 0].tolist())


def hatch(clip: RawClip) -> np.ndarray | None:
    """Labels (T, H, W) with stripes on the frames that are not annotated."""
    if clip.labels is None or clip.annotated is None:
        return clip.labels
    rows, columns = np.indices(clip.labels.shape[1:])
    wide = max(1, min(rows.shape) // 12)
    stripes = np.where((rows + columns) // wide % 2, HATCHED, 0).astype(np.uint8)
    return np.where(clip.annotated[:, None, None], clip.labels, stripes)


def contact_sheet(source: VideoSource, videos: int, frames: int) -> np.ndarray:
    """Picture (height, width, 3) of the first videos, ``frames`` of each."""
    rows = []
    for index in range(min(videos, len(source))):
        clip = source.read(index, choose(source, index, frames))
        rows.append(mask_picture(draw_hints(clip), hatch(clip), {}, max_columns=frames))
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(r, ((0, 8), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows
    ]
    return np.concatenate(padded)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("overrides", nargs="*", help="as for train.py, e.g. dataset=davis2016")
    parser.add_argument("--videos", type=int, default=3, help="videos to show")
    parser.add_argument("--frames", type=int, default=8, help="frames of each")
    options = parser.parse_intermixed_args(arguments)
    try:
        sheet = contact_sheet(source_of(options.overrides), options.videos, options.frames)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_image(options.out, sheet)
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
