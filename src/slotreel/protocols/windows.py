"""Whole videos or windows of them: which frames are segmented together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slotreel.errors import ConfigError, nearest
from slotreel.types import VideoInfo

REMAINDERS = ("keep", "drop", "complete")


class Window(NamedTuple):
    """Frames that a model sees as one video."""

    frames: list[int]  # numbers in the video, in the order they are pushed
    num_scored: int  # how many of them count; the others complete the window
    start: int | None  # number of its first frame; None for a whole video

    def video(self, whole: VideoInfo) -> VideoInfo:
        """The video the model is told of: draws of a window depend on where it starts."""
        name = whole.id if self.start is None else f"{whole.id}@{self.start}"
        names = tuple(whole.frame_name(frame) for frame in self.frames)
        return VideoInfo(name, len(self.frames), whole.size, names)


def check_remainder(remainder: str) -> str:
    """The word, if it is one.

    Raises:
        ConfigError: unknown word.
    """
    if remainder not in REMAINDERS:
        raise ConfigError(f"remainder={remainder} is unknown; {nearest(remainder, REMAINDERS)}")
    return remainder


def plan_windows(frames: Sequence[int], window: int | None, remainder: str) -> list[Window]:
    """Frames of a video in pieces.

    Args:
        frames: numbers of the frames, in order.
        window: frames of a piece; None keeps the video whole.
        remainder: what becomes of a last piece that is too short, see ``Protocol``. A video shorter
            than one window is kept by ``complete`` too, without completion where frames are
            lacking.
    """
    if window is None:
        return [Window(list(frames), len(frames), None)]
    pieces = [list(frames[i : i + window]) for i in range(0, len(frames), window)]
    windows = [Window(piece, len(piece), piece[0]) for piece in pieces]
    if windows and windows[-1].num_scored < window:
        short = windows.pop()
        if remainder == "complete":
            missing = window - short.num_scored
            windows.append(short._replace(frames=short.frames + list(frames[-missing:])))
        elif remainder == "keep":
            windows.append(short)
    return windows
