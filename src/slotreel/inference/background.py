"""Which slot is the background: decided once per video, on label maps as they stream past.

Slot models have no background; every pixel belongs to a slot. Scores that want one, and overlays
that should leave it clear, drop a slot: its pixels become label 0. H W pixels.
"""

from __future__ import annotations

import numpy as np

from slotreel.errors import ConfigError
from slotreel.streaming import MAX_SLOTS

RULES = ("none", "largest", "border")
IGNORE = 255


class BackgroundRule:
    """Drops at most one slot of a video; the others keep their labels (slot + 1).

    Label 0 (dropped already) and 255 (ignore) never win; among equal counts the lowest label does.

    Args:
        rule: ``none``; ``largest``, the label with most pixels in the first ``frames`` label maps;
            ``border``, the one with most pixels along their four sides; or the number of a slot,
            from 0.
        frames: label maps that decide; a shorter video decides with those it has.

    Raises:
        ConfigError: another rule, or ``frames`` below 1.
    """

    def __init__(self, rule: str | int = "none", frames: int = 8) -> None:
        by_number = isinstance(rule, int) and not isinstance(rule, bool)
        if not (rule in RULES or (by_number and 0 <= int(rule) < MAX_SLOTS)):
            raise ConfigError(
                f"expected background as one of {', '.join(RULES)} or the number of a slot, 0 to "
                f"{MAX_SLOTS - 1}; got {rule}; type background=largest"
            )
        if frames < 1:
            raise ConfigError(f"expected frames of the background rule to be 1 or more: {frames}")
        self.rule, self.frames = rule, frames

    def stream(self) -> BackgroundStream:
        """Start a video."""
        return BackgroundStream(self)


class BackgroundStream:
    """Label maps of one video, in order; at most ``rule.frames`` are held.

    Args:
        rule: how to decide.

    Attributes:
        dropped: the label that becomes 0; None as long as, or if, there is none.
    """

    def __init__(self, rule: BackgroundRule) -> None:
        self.rule = rule
        self.dropped: int | None = None
        self._decided = rule.rule not in ("largest", "border")
        if self._decided and rule.rule != "none":
            self.dropped = int(rule.rule) + 1
        self._held: list[np.ndarray] = []

    def push(self, labels: np.ndarray) -> list[np.ndarray]:
        """The next label map uint8 (H, W); returns those that are ready, in order."""
        if self._decided:
            return [self._drop(labels)]
        self._held.append(labels)
        return self.finish() if len(self._held) == self.rule.frames else []

    def finish(self) -> list[np.ndarray]:
        """What was held, after a decision on what there is."""
        if not self._decided:
            self._decide()
        ready, self._held = [self._drop(labels) for labels in self._held], []
        return ready

    def _decide(self) -> None:
        counts = np.zeros(256, dtype=np.int64)
        for labels in self._held:
            seen = labels.ravel() if self.rule.rule == "largest" else _border(labels)
            counts += np.bincount(seen, minlength=256)
        counts[[0, IGNORE]] = 0
        self._decided = True
        self.dropped = int(counts.argmax()) if counts.any() else None

    def _drop(self, labels: np.ndarray) -> np.ndarray:
        if self.dropped is None:
            return labels
        return np.where(
            labels == self.dropped, np.uint8(0), labels
        )  # never in place: may be shared


def _border(labels: np.ndarray) -> np.ndarray:
    """Labels along the four sides of a map, each pixel once."""
    inside = np.zeros(labels.shape, dtype=bool)
    inside[1:-1, 1:-1] = True
    return labels[~inside]
