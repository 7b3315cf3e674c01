"""J&F of overlapping proposals, matched with the objects anew in every frame (SMTC's variant)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotreel.metrics.arrays import Pixels, as_tensors
from slotreel.metrics.boundary import BOUND_TH, tolerance_radius
from slotreel.metrics.functional import label_count
from slotreel.metrics.jf import stack_proposals
from slotreel.metrics.pairs import proposal_scores
from slotreel.metrics.streamed import NOTHING, StreamedMetric
from slotreel.types import MetricRow, Proposals

NAMES = ("j_per_frame_matching", "f_per_frame_matching", "jf_per_frame_matching")


class FrameMatchedJF(StreamedMetric):
    """J and F of soft proposals under one assignment per frame. Not the DAVIS measure.

    | name | score of an object |
    |---|---|
    | j_per_frame_matching, f_per_frame_matching | mean of J, of F over all frames |
    | jf_per_frame_matching | mean of the two |

    Every name counts objects: (sum over objects, N), N from the first frame as in ``JF``, void
    (255) removed from both sides.

    Proposals with a score of at least ``min_score`` are kept. Each is upsampled to the size of the
    truth (nearest: pixel y takes row floor(y h / H)), scaled so that its smallest value is 0 and
    its largest 1, and cut above ``threshold``. Frames with fewer proposals than the fullest one, or
    than objects, get empty ones. Each frame has its own one-to-one assignment with the largest sum
    of J + F, so neither identity over time nor the number of proposals costs anything: scores lie
    above those of ``JF(matching="sequence")`` on the same masks and compare with no table but
    SMTC's. State the number of proposals beside them.

    Source: Qian et al. 2023, "Semantics Meets Temporal Correspondence", arXiv:2308.09951, and its
    modified DAVIS-2017 unsupervised evaluation.
    Differs: a mask of one value throughout is empty; the original divides 0 by 0 there.

    Args:
        min_score: proposals less sure than this are dropped.
        threshold: where a mask, scaled to [0, 1], is cut.
        max_proposals: most proposals of a frame, after ``min_score``.
        bound_th: tolerance of F, as a fraction of the diagonal below 1, else in pixels.

    Raises:
        ValueError: if a number is out of range.
    """

    reads: ClassVar[Literal["labels", "proposals", "points"]] = "proposals"

    def __init__(
        self,
        *,
        min_score: float = 0.5,
        threshold: float = 0.3,
        max_proposals: int = 300,
        bound_th: float = BOUND_TH,
    ) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold={threshold} is not in [0, 1); try threshold=0.3")
        if max_proposals < 1:
            raise ValueError(f"max_proposals={max_proposals} is below 1; try max_proposals=300")
        tolerance_radius(1, 1, bound_th)  # refuses a wrong tolerance before the first video
        self.min_score = min_score
        self.threshold = threshold
        self.max_proposals = max_proposals
        self.bound_th = bound_th

    def _reset(self) -> None:
        self._num_objects: int | None = None
        self._frames: list[tuple[np.ndarray, np.ndarray]] = []  # J, F (P_t + 1, N)
        self._objects: dict[str, dict[str, float]] = {}

    def update(self, prediction: Proposals, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: soft masks (P, h, w) and their scores (P,).
            truth: uint8 (H, W); 0 background, 255 = void.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            ValueError: if the shapes do not fit or too many proposals are kept.
        """
        where = self._where(frame)
        masks, scores = prediction
        if masks.ndim != 3 or scores.shape != masks.shape[:1]:
            raise ValueError(
                f"{where}: expected masks (P, h, w) with scores (P,), got {tuple(masks.shape)} and "
                f"{tuple(scores.shape)}; give each mask one score"
            )
        masks = masks[scores >= self.min_score]
        if len(masks) > self.max_proposals:
            raise ValueError(
                f"{where}: expected at most {self.max_proposals} proposals with a score of "
                f"{self.min_score} or more, got {len(masks)}; raise min_score, or set "
                f"max_proposals={len(masks)} (not the published protocol)"
            )
        (true,) = as_tensors(truth)
        if self._num_objects is None:
            self._num_objects = max(label_count(true) - 1, 0)
        hard = cut_masks(masks, (true.shape[0], true.shape[1]), self.threshold)
        self._frames.append(proposal_scores(true, hard, self._num_objects, self.bound_th))

    def objects(self) -> dict[str, dict[str, float]]:
        """Every name of the class for each object of the video just finished, by its true id."""
        return self._objects

    def _close(self) -> MetricRow:
        if not self._num_objects:
            return dict.fromkeys(NAMES, NOTHING)
        j, f = (stack_proposals([frame[side] for frame in self._frames]) for side in (0, 1))
        matched = assign_per_frame(j + f)[None]
        of_j, of_f = (np.take_along_axis(x, matched, 0)[0].mean(-1) for x in (j, f))
        scores = dict(zip(NAMES, (of_j, of_f, (of_j + of_f) / 2), strict=True))
        self._objects = {
            str(n + 1): {name: float(values[n]) for name, values in scores.items()}
            for n in range(self._num_objects)
        }
        return {
            name: (float(values.sum()), float(self._num_objects)) for name, values in scores.items()
        }


def assign_per_frame(score: np.ndarray) -> np.ndarray:
    """The one-to-one assignment with the largest sum, in every frame on its own.

    Args:
        score: float64 (P, N, T) with P >= N.

    Returns:
        int64 (N, T): the proposal of every object, counted from 0.
    """
    frames = np.moveaxis(score, -1, 0)
    chosen = [linear_sum_assignment(frame.T, maximize=True)[1] for frame in frames]
    return np.stack(chosen, axis=-1)


def cut_masks(masks: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Soft masks at the size of the truth, each scaled to [0, 1] over its frame, then cut.

    Args:
        masks: (P, h, w), any range.
        size: (H, W) in pixels.
        threshold: values above it are in.

    Returns:
        bool (P, H, W); False throughout where a mask has one value only.
    """
    if not len(masks):
        return masks.new_zeros((0, *size)).bool()
    flat = F.interpolate(masks[None].float(), size, mode="nearest")[0].flatten(1)
    low, high = flat.aminmax(dim=1, keepdim=True)
    scaled = (flat - low) / (high - low)  # 0 / 0 is not above the threshold
    return (scaled > threshold).reshape(-1, *size)
