"""At which size a model sees the frames whose labels are propagated."""

from __future__ import annotations

from collections.abc import Sequence

from slotreel.errors import ConfigError
from slotreel.layers.checks import at_least
from slotreel.streaming import as_size


class FrameSize:
    """A fixed size, or one that follows from that of the video.

    Source: the evaluation programs of DINO (``short_side=480 multiple=64``: 480 x 854 becomes
    480 x 832), SMTC (``short_side=None`` and its stride) and, for joints, CRW (``fixed=320``).

    Args:
        fixed: one number for a square or (height, width), pixels; None = by the other two.
        short_side: of the result, pixels, whatever ``multiple`` is; the long side is cut down to a
            multiple, so the aspect changes a little. None keeps the size of the frames, with both
            sides cut down to multiples.
        multiple: pixels.

    Raises:
        ConfigError: if a number is not positive.
    """

    def __init__(
        self, fixed: int | Sequence[int] | None, short_side: int | None, multiple: int
    ) -> None:
        at_least("propagation.multiple", multiple, 1, 16)
        if short_side is not None:
            at_least("propagation.short_side", short_side, 1, 480)
        try:
            self.fixed = None if fixed is None else as_size(fixed)
        except ConfigError as error:
            raise ConfigError(
                f"expected propagation.frame_size as one positive number or [height,width], got "
                f"{fixed}; type propagation.frame_size=320 or propagation.frame_size=null"
            ) from error
        self.short_side, self.multiple = short_side, multiple

    def __call__(self, frame: tuple[int, int]) -> tuple[int, int]:
        """Height and width for frames of this height and width, pixels."""
        if self.fixed is not None:
            return self.fixed
        if self.short_side is None:
            return self._cut(frame[0]), self._cut(frame[1])
        long = self._cut(self.short_side * max(frame) // min(frame))
        upright = frame[0] > frame[1]
        return (long, self.short_side) if upright else (self.short_side, long)

    def _cut(self, side: int) -> int:
        return max(side // self.multiple, 1) * self.multiple
