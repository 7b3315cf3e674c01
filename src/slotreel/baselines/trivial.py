"""Rows every table carries: models without training that a trained one must beat.

They are objectives like any other, so protocols score them and ``predict`` runs them. Whose masks
are scored (``masks=...``) means nothing to them: they have one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from slotreel.baselines.clustering import grid_blocks
from slotreel.errors import ConfigError
from slotreel.interfaces import Objective, Stream
from slotreel.noise import seed_of
from slotreel.streaming import MAX_SLOTS
from slotreel.types import Batch, LossOutput, MaskSource, Prediction, Progress, VideoInfo

TRIVIAL_ROWS = {  # model=<name> -> what tables call it, in the order of tables
    "one_slot": "one slot",
    "random": "random labels",
    "fg_bg": "foreground/background (sees the truth)",
    "blocks": "fixed blocks",
    "rgb_kmeans": "k-means on colours",
    "feature_kmeans": "k-means on features",
    "keep_first": "first frame kept",
}

LabelFrame = Callable[[int, tuple[int, int], Mapping[str, Any]], np.ndarray]


class Trivial(Objective):
    """A model without parameters to train.

    Args:
        num_slots: K, the number of slots of the model it stands beside.
        seed: of whatever is drawn; the same seed and video id give the same labels.

    Attributes:
        uses_backbone: whether the constructor also takes ``backbone``.

    Raises:
        ConfigError: if num_slots does not fit a label map.
    """

    trainable = False
    uses_backbone: ClassVar[bool] = False

    def __init__(self, *, num_slots: int, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= num_slots <= MAX_SLOTS:
            raise ConfigError(
                f"expected num_slots in 1..{MAX_SLOTS} (label maps are uint8), got {num_slots}"
            )
        self.num_slots, self.seed = num_slots, seed

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Refused: there is nothing to train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(self).__name__} has nothing to train; score it with ./eval.py model=blocks "
            f"(or {', '.join(name for name in TRIVIAL_ROWS if name != 'blocks')})"
        )


class OneSlot(Trivial):
    """Everything belongs to slot 1: FG-ARI 0 wherever there are two objects."""

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video."""
        return FrameStream(lambda frame, size, hints: np.ones(size, np.uint8))


class RandomLabels(Trivial):
    """Every pixel of every frame draws one of K slots: ARI 0 on average."""

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; the draws depend on seed, video id and frame only."""

        def draw(frame: int, size: tuple[int, int], hints: Mapping[str, Any]) -> np.ndarray:
            rng = np.random.default_rng(seed_of(self.seed, "random", video.id, frame))
            return rng.integers(1, self.num_slots + 1, size, dtype=np.uint8)

        return FrameStream(draw)


class ForegroundOracle(Trivial):
    """Knows what is object and what is background, and nothing about which object.

    Two slots whatever K is: background is 1, all objects are 2; ignored pixels count as background.
    """

    oracle = True

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; ``push`` expects the truth (n, H, W) in ``hints["labels"]``."""

        def copy(frame: int, size: tuple[int, int], hints: Mapping[str, Any]) -> np.ndarray:
            truth = np.asarray(hints["labels"])
            return np.where((truth > 0) & (truth < 255), 2, 1).astype(np.uint8)

        return FrameStream(copy)


class KeepFirst(Trivial):
    """The truth of the first frame (labels or keypoints) is the answer to every frame."""

    conditional = True

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; the first ``push`` expects the truth of frame 0 in its hints."""
        return _FirstStream()


class _FirstStream(Stream):
    def __init__(self) -> None:
        self.labels: np.ndarray | None = None
        self.points: np.ndarray | None = None
        self.done = 0

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """What was given, once per frame; void says nothing about the frames to come."""
        if hints and "labels" in hints:
            first = np.asarray(hints["labels"])[0]
            self.labels = np.where(first == 255, 0, first).astype(np.uint8)
        if hints and "keypoints" in hints:
            self.points = np.asarray(hints["keypoints"])[0]
        start, self.done = self.done, self.done + len(frames)
        return [
            Prediction(frame, labels=self.labels, points=self.points)
            for frame in range(start, self.done)
        ]


class Blocks(Trivial):
    """Fixed compact blocks, k-means of pixel coordinates: never looks at the video.

    One partition for all frames of all videos of a size; it has the identity over time that a
    model can get from place alone.
    """

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video."""
        return FrameStream(lambda frame, size, hints: _blocks(*size, self.num_slots, self.seed))


@lru_cache(maxsize=16)
def _blocks(height: int, width: int, num_slots: int, seed: int) -> np.ndarray:
    blocks = grid_blocks(height, width, num_slots, seed)
    blocks.flags.writeable = False  # shared by all frames
    return blocks


class FrameStream(Stream):
    """Labels every frame by itself, at the size of the pushed frames.

    Args:
        label: (position in the video, (H, W), hints of this frame) -> uint8 (H, W).
    """

    def __init__(self, label: LabelFrame) -> None:
        self.label, self.done = label, 0

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """Frames (n, 3, H, W) -> n predictions, at once."""
        size = (frames.shape[-2], frames.shape[-1])
        ready = []
        for i in range(len(frames)):
            own = {name: values[i] for name, values in (hints or {}).items()}
            ready.append(Prediction(self.done, labels=self.label(self.done, size, own)))
            self.done += 1
        return ready
