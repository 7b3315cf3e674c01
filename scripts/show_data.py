#!/usr/bin/env python
"""Write a contact sheet of a data set: frames above masks, one video per pair of rows.

python scripts/show_data.py OUT.png dataset=moving_shapes
python scripts/show_data.py OUT.png dataset=davis2016 paths.data=DIR --videos 2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from slotreel.data.image_io import write_image
from slotreel.errors import UserError
from slotreel.interfaces import VideoSource
from slotreel.visualize import mask_picture

CONF = Path(__file__).resolve().parents[1] / "conf"


def source_of(overrides: list[str]) -> VideoSource:
    """The training source of a configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides)
    return instantiate(cfg.dataset.source, _convert_="all")


def contact_sheet(source: VideoSource, videos: int, frames: int) -> np.ndarray:
    """Picture (height, width, 3) of the first videos, ``frames`` of each, evenly spread."""
    rows = []
    for index in range(min(videos, len(source))):
        info = source.info(index)
        picked = np.unique(np.linspace(0, info.num_frames - 1, frames).round().astype(int))
        clip = source.read(index, picked.tolist())
        rows.append(mask_picture(clip.video, clip.labels, {}, max_columns=frames))
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
