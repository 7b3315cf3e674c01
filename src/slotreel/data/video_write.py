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

SUFFIXES = (".mp4", ".gif")


class VideoWriter:
    """A video that appears under its name only once it is complete.

    Frames go to a temporary file beside ``path``, renamed at the end of the ``with`` block and
    removed if the block fails. MP4 needs even sides: an odd one is padded by repeating the last row
    or column. A GIF keeps one byte per pixel of every frame in memory until the end; MP4 does not.

    Args:
        path: ends in .mp4 or .gif; missing folders are made.
        fps: frames per second.
        crf: quality of MP4, 0 (lossless up to chroma) to 51 (worst).

    Raises:
        ValueError: another suffix, or ``fps`` not above 0.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 25.0, crf: int = 18) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif, got {suffix!r}")
        if fps <= 0:
            raise ValueError(f"fps={fps}: expected a number above 0")
        self.fps, self.crf = fps, crf
        self.num_frames = 0
        self._gif = suffix == ".gif"
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}{suffix}")
        self._container: Any = None
        self._stream: Any = None
        self._pages: list[Image.Image] = []
        self._size: tuple[int, int] | None = None

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
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        size = (frame.shape[0], frame.shape[1])
        if self._size is None:
            self._size = size
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._gif:
                self._open(size)
        if size != self._size:
            raise ValueError(
                f"{self.path}: frame {self.num_frames} is {size}, the others are {self._size}"
            )
        if self._gif:
            self._pages.append(Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE))
        else:
            odd = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
            picture = av.VideoFrame.from_ndarray(np.pad(frame, odd, "edge"), format="rgb24")
            self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def _open(self, size: tuple[int, int]) -> None:
        self._container = av.open(str(self._temporary), "w", format="mp4")
        rate = Fraction(self.fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.height, self._stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
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
            if self._gif:
                self._save_pages()
            else:
                self._container.mux(self._stream.encode(None))
                self._container.close()
            os.replace(self._temporary, self.path)
        finally:
            self._discard()

    def _save_pages(self) -> None:
        first, *rest = self._pages
        milliseconds = 1000 / self.fps
        first.save(
            self._temporary, save_all=True, append_images=rest, duration=milliseconds, loop=0
        )

    def _discard(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None
        self._pages = []
        self._temporary.unlink(missing_ok=True)
