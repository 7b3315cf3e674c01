"""Video files, read by exact frame number and written atomically."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import av
import numpy as np

from slotreel.data.image_io import davis_palette, read_image, read_labels, write_labels
from slotreel.data.video_write import VideoWriter
from slotreel.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".webm", ".mov", ".avi", ".mkv")
_ERRORS = (av.error.FFmpegError, OSError, ValueError)


class VideoIndex(NamedTuple):
    """Where the frames of a video are; small, so that it travels to workers."""

    pts: np.ndarray  # int64 (num_frames,) time stamps in order of display; empty: no seeking
    keys: np.ndarray  # int64 sorted frame numbers at which decoding can start
    num_frames: int
    size: tuple[int, int]  # (H, W), upright
    fps: float


def _failure(path: Path, reason: object) -> DataError:
    if not path.is_file():
        return DataError(f"cannot read the video {path}: there is no such file")
    return DataError(
        f"cannot read the video {path}: {reason}. Copy it again, or rewrite it with "
        f"`ffmpeg -i {path.name} -c:v libx264 repaired.mp4`"
    )


def _open(path: Path, threads: str = "SLICE") -> tuple[Any, Any]:
    try:
        container = av.open(str(path))
    except _ERRORS as error:
        raise _failure(path, error) from error
    if not container.streams.video:
        container.close()
        raise _failure(path, "it has no video stream")
    stream = container.streams.video[0]
    stream.thread_type = threads
    return container, stream


def _pixels(frame: Any) -> np.ndarray:
    """Decoded frame -> uint8 (H, W, 3), turned upright as players do (telephones rotate)."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def scan_video(path: str | os.PathLike[str]) -> VideoIndex:
    """Find all frames of a video: reads the file once and decodes its first frame only.

    Raises:
        DataError: the file is missing, damaged, cut off, or has no frames.
    """
    path = Path(path)
    container, stream = _open(path)
    with container:
        size: tuple[int, int] | None = None
        stamps: list[tuple[int | None, bool]] = []
        num_packets = 0
        try:
            for packet in container.demux(stream):
                num_packets += packet.size > 0
                if packet.size and not packet.is_discard:
                    stamps.append((packet.pts, packet.is_keyframe))
                if size is None:
                    size = next((_pixels(frame).shape[:2] for frame in packet.decode()), None)
        except _ERRORS as error:
            raise _failure(path, error) from error
        if size is None:
            raise _failure(path, "it holds no frame that can be decoded")
        if num_packets < stream.frames:
            raise _failure(
                path, f"it is cut off: announces {stream.frames} frames, holds {num_packets}"
            )
        fps = float(stream.average_rate or stream.guessed_rate or 25)
    order = sorted((pts, key) for pts, key in stamps if pts is not None)
    pts = np.array([stamp for stamp, _ in order], dtype=np.int64)
    if len(pts) < len(stamps) or len(np.unique(pts)) < len(pts):  # e.g. AVI: no usable stamps
        return VideoIndex(pts[:0], pts[:0], _count(path), size, fps)
    keys = np.array([n for n, (_, key) in enumerate(order) if key], dtype=np.int64)
    return VideoIndex(pts, keys, len(pts), size, fps)


def _count(path: Path) -> int:
    container, stream = _open(path, "AUTO")
    with container:
        try:
            return sum(1 for _ in container.decode(stream))
        except _ERRORS as error:
            raise _failure(path, error) from error


class VideoReader:
    """Frames of one video file, by number or one after the other.

    Random access decodes forward while that is shorter than jumping to a key frame, so reading
    frames in rising order costs one pass. Use as a context manager.

    Args:
        path: a file that FFmpeg can read.
        index: what ``scan_video`` found, to open a known file without scanning it again.

    Attributes:
        num_frames: frames that decode to a picture, counted rather than taken from the header.
        size: (H, W) in pixels.
        fps: mean frames per second.

    Raises:
        DataError: the file is missing, damaged, cut off, or has no frames.
    """

    def __init__(self, path: str | os.PathLike[str], index: VideoIndex | None = None) -> None:
        self.path = Path(path)
        self.index = index or scan_video(self.path)
        self.num_frames, self.size, self.fps = self.index[2:]
        self._container: Any = None
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._next = 0  # lowest number the open decoder may still deliver

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; reading again reopens it."""
        if self._container is not None:
            self._container.close()
        self._container, self._frames, self._next = None, iter(()), 0

    def read(self, frames: Sequence[int]) -> np.ndarray:
        """The numbered frames, uint8 (T, H, W, 3), in the order asked for.

        Raises:
            IndexError: there is no such frame.
            DataError: the file is damaged at a frame.
        """
        numbers = [int(n) for n in frames]
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.num_frames:
            raise IndexError(
                f"{self.path} has frames 0 to {self.num_frames - 1}, asked for {numbers}"
            )
        found = {n: self._one(n) for n in sorted(set(numbers))}
        if not numbers:
            return np.zeros((0, *self.size, 3), dtype=np.uint8)
        return np.stack([found[n] for n in numbers])

    def iterate(self) -> Iterator[np.ndarray]:
        """All frames uint8 (H, W, 3) in order; memory does not grow with the video.

        Raises:
            DataError: the file is damaged at a frame.
        """
        container, stream = _open(self.path, "AUTO")
        done = 0
        with container:
            try:
                for frame in container.decode(stream):
                    yield _pixels(frame)
                    done += 1
            except _ERRORS as error:
                raise _failure(self.path, f"frame {done}: {error}") from error
        if done < self.num_frames:
            raise _failure(self.path, f"only {done} of {self.num_frames} frames could be decoded")

    def _one(self, number: int) -> np.ndarray:
        try:
            if self._container is None or number < self._next or self._jump_pays(number):
                self._start(number)
            for n, frame in self._frames:
                self._next = n + 1
                if n == number:
                    return _pixels(frame)
                if n > number:
                    break
        except _ERRORS as error:
            self.close()
            raise _failure(self.path, f"frame {number}: {error}") from error
        self.close()
        raise _failure(self.path, f"frame {number} of {self.num_frames} cannot be decoded")

    def _jump_pays(self, number: int) -> bool:
        keys = self.index.keys
        return bool(np.any((keys > self._next) & (keys <= number)))

    def _start(self, number: int) -> None:
        """Point the decoder at the last key frame up to ``number``."""
        self.close()
        self._container, stream = _open(self.path)
        pts, keys = self.index.pts, self.index.keys
        before = keys[keys <= number]
        if len(before) and before[-1] > 0:
            self._container.seek(int(pts[before[-1]]), stream=stream, backward=True)
            self._frames = self._numbered(stream)
            first = next(self._frames, None)
            if first is not None and first[0] <= number:
                self._frames = _chain(first, self._frames)
                return
            self._container.close()  # the container's own index jumps too far: decode from 0
            self._container, stream = _open(self.path)
        self._frames = self._numbered(stream)

    def _numbered(self, stream: Any) -> Iterator[tuple[int, Any]]:
        pts = self.index.pts
        for count, frame in enumerate(self._container.decode(stream)):
            if not len(pts):
                yield count, frame
            elif frame.pts is not None:
                number = int(np.searchsorted(pts, frame.pts))
                if number < len(pts) and pts[number] == frame.pts:
                    yield number, frame


def _chain(first: tuple[int, Any], rest: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    yield first
    yield from rest


__all__ = [
    "VIDEO_SUFFIXES",
    "VideoIndex",
    "VideoReader",
    "VideoWriter",
    "davis_palette",
    "read_image",
    "read_labels",
    "scan_video",
    "write_labels",
]
