"""k-means of a whole video, on colours or on backbone features: the rows that look at content.

One clustering per video, so a cluster keeps its identity over time. Nothing can be labelled before
the last frame is in, so these streams keep the points of all frames and answer in ``finish``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.baselines.clustering import kmeans_labels
from slotreel.baselines.trivial import Trivial
from slotreel.interfaces import Backbone, Stream
from slotreel.noise import seed_of
from slotreel.types import MaskSource, Prediction, VideoInfo

MAX_SAMPLES = 20_000  # points that centres are fitted on


class RgbKmeans(Trivial):
    """k-means of pixel colours over the whole clip, K clusters, at the size the model sees.

    Memory: 3 bytes per pixel and frame until the end of the video.
    """

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; predictions come with ``finish``."""
        return RgbStream(self.num_slots, seed_of(self.seed, "rgb_kmeans", video.id))


class FeatureKmeans(Trivial):
    """k-means of backbone tokens over the whole video, K clusters, no position added.

    The clusters' one-hot maps take the way of a model's soft masks: upsampled bilinearly, then cut.
    Memory: the tokens in float16, 2 E bytes per token and frame until the end of the video.

    Args:
        num_slots: K.
        seed: of the sampled subset and the k-means initialisation.
        backbone: frames to tokens; use the one of the model it stands beside.
    """

    uses_backbone = True

    def __init__(self, *, num_slots: int, backbone: Backbone, seed: int = 0) -> None:
        super().__init__(num_slots=num_slots, seed=seed)
        self.backbone = backbone.requires_grad_(False)

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Start a video; predictions come with ``finish``."""
        seed = seed_of(self.seed, "feature_kmeans", video.id)
        return FeatureStream(self.num_slots, seed, self.backbone)


class ClusterStream(Stream):
    """Collects points of all frames, then clusters them together.

    Args:
        num_slots: K.
        seed: of the sampled subset and the k-means initialisation.
    """

    def __init__(self, num_slots: int, seed: int) -> None:
        self.num_slots, self.seed = num_slots, seed
        self.points: list[np.ndarray] = []  # one (h, w, C) per frame

    @abstractmethod
    def describe(self, frames: Tensor) -> np.ndarray:
        """Frames (n, 3, H, W) -> points (n, h, w, C) in a dtype that is cheap to keep."""

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        """Keep the points of these frames; nothing is ready yet."""
        self.points.extend(self.describe(frames))
        return []

    def finish(self) -> Iterator[Prediction]:
        """Predictions of all frames, in order, each made when it is asked for."""
        if not self.points:
            return
        centres = fit_centres(self.points, self.num_slots, self.seed)
        for frame, points in enumerate(self.points):
            yield self.predict(frame, assign(points, centres))

    def predict(self, frame: int, labels: np.ndarray) -> Prediction:
        """What to answer for labels uint8 (h, w), 1..K, of one frame."""
        return Prediction(frame, labels=labels)


class RgbStream(ClusterStream):
    """Points are pixels: 8-bit colours."""

    def describe(self, frames: Tensor) -> np.ndarray:
        """Frames (n, 3, H, W) in [0, 1] -> uint8 (n, H, W, 3)."""
        pixels: np.ndarray = (frames * 255).round().to(torch.uint8).cpu().numpy()
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


class FeatureStream(ClusterStream):
    """Points are tokens.

    Args:
        num_slots: K.
        seed: of the sampled subset and the k-means initialisation.
        backbone: frames to tokens.
    """

    def __init__(self, num_slots: int, seed: int, backbone: Backbone) -> None:
        super().__init__(num_slots, seed)
        self.backbone = backbone

    @torch.no_grad()
    def describe(self, frames: Tensor) -> np.ndarray:
        """Frames (n, 3, H, W) -> float16 (n, h, w, E)."""
        features = self.backbone(frames[None])
        tokens = features.tokens[0].unflatten(1, features.grid)  # (n, h, w, E)
        points: np.ndarray = tokens.half().cpu().numpy()
        return points

    def predict(self, frame: int, labels: np.ndarray) -> Prediction:
        """Soft masks (K, h, w), one-hot."""
        slots = torch.from_numpy(labels.astype(np.int64) - 1)
        return Prediction(frame, masks=F.one_hot(slots, self.num_slots).permute(2, 0, 1).float())


def fit_centres(points: list[np.ndarray], num_clusters: int, seed: int) -> np.ndarray:
    """Centres of a k-means on a random subset of a video's points.

    Args:
        points: (h, w, C) per frame.
        num_clusters: K.
        seed: any non-negative integer.

    Returns:
        float32 (K', C), K' <= K: fewer where the subset has fewer distinct points.
    """
    sizes = np.array([frame.shape[0] * frame.shape[1] for frame in points])
    ends = np.cumsum(sizes)
    rng = np.random.default_rng(seed)
    chosen = np.arange(ends[-1])
    if len(chosen) > MAX_SAMPLES:
        chosen = np.sort(rng.choice(len(chosen), MAX_SAMPLES, replace=False))
    owner = np.searchsorted(ends, chosen, side="right")
    sample = np.concatenate(
        [
            frame.reshape(-1, frame.shape[-1])[chosen[owner == i] - (ends[i] - sizes[i])]
            for i, frame in enumerate(points)
        ]
    ).astype(np.float64)
    labels = kmeans_labels(sample, num_clusters, int(rng.integers(2**31)), MAX_SAMPLES)
    used = np.unique(labels)
    return np.stack([sample[labels == label].mean(0) for label in used]).astype(np.float32)


def assign(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Nearest centre of each point of one frame.

    Args:
        points: (h, w, C).
        centres: float32 (K', C).

    Returns:
        uint8 (h, w), 1..K'.
    """
    flat = points.reshape(-1, points.shape[-1]).astype(np.float32)
    # |x - c|^2 without |x|^2, which is the same for every centre
    distance = (centres**2).sum(1) - 2 * flat @ centres.T
    labels: np.ndarray = (distance.argmin(1) + 1).astype(np.uint8)
    return labels.reshape(points.shape[:2])
