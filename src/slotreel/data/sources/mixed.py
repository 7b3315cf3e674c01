"""Several sources as one, for training without labels."""

from __future__ import annotations

from collections.abc import Sequence

from slotreel.errors import ConfigError
from slotreel.interfaces import VideoSource
from slotreel.types import RawClip, VideoInfo


class MixedVideos(VideoSource):
    """Takes a video from each source in turn; frames only, no labels and no hints.

    Labels and hints stay behind because sources differ in what they have and in its shape. Every
    source gives as many videos as the shortest.

    Args:
        sources: at least one.

    Raises:
        ConfigError: there is none.
    """

    def __init__(self, *, sources: Sequence[VideoSource]) -> None:
        if not sources:
            raise ConfigError("dataset.source.sources is empty; type dataset=moving_shapes")
        self.sources = list(sources)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.sources) * min(len(source) for source in self.sources)

    def info(self, index: int) -> VideoInfo:
        """Facts of a video; its id begins with the number of its source."""
        number, own = self._find(index)
        info = self.sources[number].info(own)
        return info._replace(id=f"{number}-{info.id}")

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        """The given frames of a video."""
        number, own = self._find(index)
        clip = self.sources[number].read(own, frames)
        return clip._replace(labels=None, hints={}, annotated=None)

    def _find(self, index: int) -> tuple[int, int]:
        """Which source, and which of its videos."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a video index from 0 to {len(self) - 1}, got {index}")
        own, number = divmod(index, len(self.sources))
        return number, own
