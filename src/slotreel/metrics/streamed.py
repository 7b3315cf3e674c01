"""What all streamed metrics share: a video is started, fed in order, and finished once."""

from __future__ import annotations

from abc import abstractmethod

from slotreel.interfaces import Metric
from slotreel.types import MetricRow, VideoInfo

Row = tuple[float, float]  # sum and count

NOTHING: Row = (0.0, 0.0)


class StreamedMetric(Metric):
    """A metric that knows which video it is in; subclasses fill in ``_reset`` and ``_close``."""

    _name: str | None = None

    def start(self, video: VideoInfo) -> None:
        """Forget the previous video."""
        self._name = video.id
        self._reset()

    def finish(self) -> MetricRow:
        """Close the video.

        Returns:
            (sum, count) per name; the class says what is counted.

        Raises:
            RuntimeError: if no video was started.
            ValueError: if the frames do not suffice for the protocol.
        """
        if self._name is None:
            raise RuntimeError("finish() before start(video); call start once per video")
        self._name = None
        return self._close()

    def _where(self, frame: int) -> str:
        """Start of a message about a frame; refuses frames that belong to no video."""
        if self._name is None:
            raise RuntimeError("update() before start(video); call start once per video")
        return f"video {self._name!r}, frame {frame}"

    @abstractmethod
    def _reset(self) -> None:
        """Make empty sums."""

    @abstractmethod
    def _close(self) -> MetricRow:
        """Scores from the sums."""


def check_option(name: str, value: object, options: tuple[str, ...]) -> None:
    """Refuse what is none of the options.

    Raises:
        ValueError: naming them.
    """
    if value not in options:
        raise ValueError(f"{name}={value} is unknown; choose {' or '.join(options)}")
