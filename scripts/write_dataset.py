#!/usr/bin/env python
"""Write a generated data set to disk, in the layout of `folder`.

    python scripts/write_dataset.py --source moving_shapes --level easy --num-videos 20 --out DIR

gives DIR/NAME/00000.png ... (or DIR/NAME.mp4) and DIR/Annotations/NAME/00000.png ..., which
`FolderVideos(DIR)` reads back: PNG and labels exactly, JPEG and MP4 up to compression.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from slotreel.data.image_io import write_image, write_labels
from slotreel.data.video_io import VideoWriter
from slotreel.errors import DataError, UserError
from slotreel.interfaces import VideoSource


def moving_shapes(options: argparse.Namespace) -> VideoSource:
    """The source that the arguments describe."""
    from slotreel.data.sources.moving_shapes import MovingShapes

    return MovingShapes(
        level=options.level,
        num_videos=options.num_videos,
        num_frames=options.num_frames,
        image_size=options.image_size,
        seed=options.seed,
        split=options.split,
    )


SOURCES: dict[str, Callable[[argparse.Namespace], VideoSource]] = {"moving_shapes": moving_shapes}


def write_video(source: VideoSource, index: int, out: Path, form: str, fps: float) -> None:
    """Write one video and its masks.

    Args:
        source: where it comes from.
        index: number of the video.
        out: root of the data set.
        form: "png", "jpg" or "mp4".
        fps: frames per second of an mp4.
    """
    info = source.info(index)
    clip = source.read(index, range(info.num_frames))
    if form == "mp4":
        with VideoWriter(out / f"{info.id}.mp4", fps) as writer:
            for frame in clip.video:
                writer.write(frame)
    else:
        write_frames(out / info.id, clip.video, f".{form}", write_image)
    if clip.labels is not None:
        write_frames(out / "Annotations" / info.id, clip.labels, ".png", write_labels)


def write_frames(
    folder: Path, frames: np.ndarray, suffix: str, write: Callable[[Path, np.ndarray], None]
) -> None:
    """Write frames as 00000, 00001, ... into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        write(folder / f"{number:05d}{suffix}", frame)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", choices=sorted(SOURCES), default="moving_shapes")
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--level", default="easy", help="plain, easy or hard")
    parser.add_argument("--split", default="train", help="train, validation or test")
    parser.add_argument("--num-videos", type=int, default=20)
    parser.add_argument("--num-frames", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=64, help="height and width, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("png", "jpg", "mp4"), default="png")
    parser.add_argument("--fps", type=float, default=12.0, help="frames per second of an mp4")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if options.out.exists() and any(options.out.iterdir()):
            raise DataError(f"--out {options.out} is not empty: expected a new or empty folder")
        try:
            source = SOURCES[options.source](options)
        except ValueError as error:
            raise UserError(str(error)) from error
        for index in track(
            range(len(source)), "writing", console=console, disable=not console.is_terminal
        ):
            write_video(source, index, options.out, options.format, options.fps)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console.print(f"{len(source)} videos in {options.out}", highlight=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
