"""J of one foreground per video: DAVIS-2016, SegTrack-v2, FBMS-59."""

from __future__ import annotations

from typing import Literal

import numpy as np

from slotreel.metrics.arrays import Pixels, as_tensors
from slotreel.metrics.boundary import jaccard
from slotreel.metrics.functional import IGNORE, check_label_maps, contingency, pairwise_iou
from slotreel.metrics.streamed import NOTHING, Row, StreamedMetric, check_option
from slotreel.types import MetricRow


class SingleObject(StreamedMetric):
    """J between foreground and truth; the foreground of the truth is every id above 0, merged.

    | name | predicted foreground | sees the truth |
    |---|---|---|
    | j_fg | every label above 0; 0 is what a background rule dropped | no |
    | j_matched | the one label above 0 with the best mean J, chosen once per video | yes |
    | j_vote | in each frame, labels above 0 that overlap foreground more than background | yes |

    J of two empty masks is 1. Pixels whose truth is 255 count nowhere. ``average="sequence"``: a
    video's value is the mean over its scored frames and it counts 1, so a set's score is a mean
    over videos. ``average="frame"``: (sum over frames, frames), a mean over all frames. Papers use
    both; say which. A video without a scored frame counts 0.

    Source: Perazzi et al. 2016 (DAVIS-2016), region similarity; ``j_vote``: the voting rule in the
    code of Qian et al. 2023, arXiv:2308.09951, IoU with the truth above IoU with its complement.
    Differs: the published vote looks at soft maps cut at half of their range, and averages maps of
    neighbouring frames; here labels are hard and frames stand alone. It scores 0 where truth and
    prediction are empty.

    Args:
        average: ``sequence`` or ``frame``, see above.
        score_ends: whether the first and the last annotated frame count; the DAVIS-2016 toolbox
            leaves them out (false).
        vote: report ``j_vote`` too.

    Raises:
        ValueError: if ``average`` is unknown.
    """

    def __init__(
        self,
        *,
        average: Literal["sequence", "frame"] = "sequence",
        score_ends: bool = True,
        vote: bool = False,
    ) -> None:
        check_option("average", average, ("sequence", "frame"))
        self.average = average
        self.score_ends = score_ends
        self.vote = vote

    def _reset(self) -> None:
        self._num_seen = 0  # frames passed
        self._num_scored = 0
        self._of_labels = np.zeros(256)  # sum of J of each label alone
        self._used = np.zeros(256, dtype=bool)  # labels that occur
        self._of_rules = np.zeros(2)  # sum of J of everything above 0, and of the vote
        self._latest: np.ndarray | None = None  # counts of a frame that may be the last

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W); slot + 1, 0 = dropped background.
            truth: uint8 (H, W); 0 background, 255 = ignore.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size.
        """
        check_label_maps(prediction, truth, self._where(frame))
        predicted, true = as_tensors(prediction, truth)
        true = true.clamp(max=1).masked_fill(true == IGNORE, IGNORE)
        counts = contingency(true[None], predicted[None], 2, int(predicted.max()) + 1)[0]
        if self.score_ends:
            self._add(counts)
        else:
            if self._latest is not None:
                self._add(self._latest)
            self._latest = counts if self._num_seen else None
        self._num_seen += 1

    def _add(self, counts: np.ndarray) -> None:
        """Score a frame from the pixels (2, K) of background and foreground in each label."""
        iou = pairwise_iou(counts)  # (2, K): with background, with foreground
        voted = iou[1] > iou[0]
        voted[0] = False
        size, everything = int(counts[1].sum()), np.arange(counts.shape[1]) > 0
        alone = jaccard(counts[1], size + counts[0])
        self._of_labels += jaccard(0, size)  # labels without pixels here
        self._of_labels[: len(alone)] += alone - jaccard(0, size)
        for rule, chosen in enumerate((everything, voted)):
            self._of_rules[rule] += jaccard(counts[1, chosen].sum(), size + counts[0, chosen].sum())
        self._used[: len(alone)] |= counts.any(0)
        self._num_scored += 1

    def _close(self) -> MetricRow:
        if not self.score_ends and 0 < self._num_seen < 3:
            raise ValueError(
                f"score_ends=false leaves out the first and the last annotated frame, so it needs "
                f"at least 3, got {self._num_seen}; leave the video out, or set score_ends=true"
            )
        used = np.flatnonzero(self._used[1:]) + 1
        best = self._of_labels[used if len(used) else [IGNORE]].max()  # no label: an empty mask
        sums = {"j_fg": float(self._of_rules[0]), "j_matched": float(best)}
        if self.vote:
            sums["j_vote"] = float(self._of_rules[1])
        return {name: self._row(total) for name, total in sums.items()}

    def _row(self, total: float) -> Row:
        frames = float(self._num_scored)
        if self.average == "frame" or not frames:
            return (total, frames) if frames else NOTHING
        return total / frames, 1.0
