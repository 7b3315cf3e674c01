"""Write videos frame by frame: H.264 in MP4, or GIF."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from PIL import Image

from slotreel.errors import DataError

SUFFIXES = (".mp4", ".gif")
H264_LARGEST_PX = 16384  # what libx264 takes as a side
GIF_TICK = Fraction(1, 100)  # seconds; a GIF's clock
GIF_MIN_TICKS = 2  # browsers show a shorter frame for ten times as long


class VideoWriter:
    """A video that appears under its name only once it is complete.

    Frames go to a temporary file beside ``path``, renamed at the end of the ``with`` block and
    removed if the block fails. Memory does not grow with the video.

    MP4 needs even sides: an odd one is padded by repeating the last row or column. A GIF frame has
    256 colours of its own, from an octree without dithering, and stays for a whole number of
    1/100 s: durations alternate so that the mean frame rate is ``fps``; above 50 frames per second
    frames are left out.

    Args:
        path: ends in .mp4 or .gif; missing folders are made.
        fps: frames per second.
        crf: quality of MP4, 0 (lossless up to chroma) to 51 (worst).
        max_width: wider frames are shrunk to it, in proportion; null keeps them.

    Raises:
        ValueError: another suffix, ``fps`` not above 0, or ``max_width`` below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float = 25.0,
        crf: int = 18,
        max_width: int | None = None,
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif, got {suffix!r}")
        if fps <= 0:
            raise ValueError(f"fps={fps}: expected a number above 0")
        if max_width is not None and max_width < 1:
            raise ValueError(f"max_width={max_width}: expected 1 or more pixels")
        self.fps, self.crf, self.max_width = Fraction(fps).limit_denominator(1001), crf, max_width
        self.num_frames = 0
        self._gif = suffix == ".gif"
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}{suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, int] | None = None  # of the frames that come
        self._shown = -GIF_MIN_TICKS  # tick at which the last frame of a GIF begins

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 (H, W, 3), of the same size as the first.

        Raises:
            ValueError: wrong type, or a size that differs from the first frame's.
            DataError: too large for H.264.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        size = (frame.shape[0], frame.shape[1])
        if self._size is None:
            self._size = size
        if size != self._size:
            raise ValueError(
                f"{self.path}: frame {self.num_frames} is {size}, the others are {self._size}"
            )
        if self.max_width is not None and size[1] > self.max_width:
            frame = _shrink(frame, self.max_width)
        if self._container is None:
            self._open(frame.shape[0], frame.shape[1])
        if self._gif:
            self._write_gif(frame)
        else:
            odd = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
            picture = av.VideoFrame.from_ndarray(np.pad(frame, odd, "edge"), format="rgb24")
            self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def _write_gif(self, frame: np.ndarray) -> None:
        tick = round(self.num_frames / self.fps / GIF_TICK)
        if tick - self._shown < GIF_MIN_TICKS:
            return
        # an octree takes 1/100 of the time of PIL's default, median cut
        paletted = Image.fromarray(frame).quantize(256, Image.Quantize.FASTOCTREE)
        colours = np.array(paletted.getpalette(), dtype=np.uint8).reshape(-1, 3)
        table = np.full((256, 4), 255, dtype=np.uint8)  # alpha, red, green, blue
        table[: len(colours), 1:] = colours
        pair: Any = (np.asarray(paletted), table)  # its type hint leaves palettes out
        picture = av.VideoFrame.from_ndarray(pair, format="pal8")
        picture.pts, picture.time_base = tick, GIF_TICK
        self._container.mux(self._stream.encode(picture))
        self._shown = tick

    def _open(self, height: int, width: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._gif:
            last = max(GIF_MIN_TICKS, round(1 / self.fps / GIF_TICK))
            self._container = av.open(
                str(self._temporary), "w", format="gif", options={"final_delay": str(last)}
            )
            self._stream = self._container.add_stream("gif", rate=self.fps)
            self._stream.codec_context.time_base = GIF_TICK
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = "pal8"
        else:
            if max(height, width) > H264_LARGEST_PX:
                raise DataError(
                    f"{self.path}: frames of {width} x {height} are too large for H.264, which "
                    f"takes sides up to {H264_LARGEST_PX} pixels; make it a .gif (format=gif)"
                )
            self._container = av.open(str(self._temporary), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=self.fps)
            self._stream.height, self._stream.width = height + height % 2, width + width % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": str(self.crf)}

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            ValueError: no frame was written.
        """
        if not self.num_frames:
            raise ValueError(f"{self.path}: no frame was written, so there is no video to store")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._temporary, self.path)
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None
        self._temporary.unlink(missing_ok=True)


def _shrink(frame: np.ndarray, width: int) -> np.ndarray:
    """The frame at another width, its shape kept."""
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
