"""Which frames of a video are remembered while its labels are propagated."""

from __future__ import annotations

from collections import deque

from slotreel.errors import ConfigError
from slotreel.layers.checks import at_least
from slotreel.propagation.affinity import Source


class Memory:
    """The first frame and the last few; a ring, so that memory does not grow with the video.

    Args:
        recent_frames: how many of the frames before the present one are remembered.
        first_frame: keep frame 0 for good, apart from the recent frames.
        pad_first: the video begins with ``recent_frames`` copies of frame 0, followed by frame 0
            itself, so that the memory is always full (CRW); else it grows (DINO).

    Attributes:
        first: frame 0, or None unless it is kept for good.
        recent: the recent frames, oldest first. Frame 0 is among them if the video is padded, or
            if it is not kept for good.

    Raises:
        ConfigError: if nothing would be remembered.
    """

    def __init__(self, recent_frames: int, *, first_frame: bool, pad_first: bool) -> None:
        at_least("propagation.recent_frames", recent_frames, 0, 7)
        if not recent_frames and not first_frame:
            raise ConfigError(
                "propagation.recent_frames=0 with propagation.first_frame=false remembers nothing; "
                "type propagation.first_frame=true"
            )
        self.first_frame, self.pad_first = first_frame, pad_first
        self.first: Source | None = None
        self.recent: deque[Source] = deque(maxlen=recent_frames)

    def begin(self, frame: Source) -> None:
        """Frame 0."""
        self.first = frame if self.first_frame else None
        copies = self.recent.maxlen or 0 if self.pad_first else int(not self.first_frame)
        self.recent.extend([frame] * copies)

    def add(self, frame: Source) -> None:
        """A later frame, with the labels it was given."""
        self.recent.append(frame)
