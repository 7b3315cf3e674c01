"""J&F of a video under the DAVIS unsupervised multi-object protocol, streamed."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from slotreel.interfaces import Metric
from slotreel.metrics.boundary import BOUND_TH, sequence_statistics, tolerance_radius
from slotreel.metrics.functional import IGNORE, check_label_maps, label_count
from slotreel.metrics.pairs import pair_scores
from slotreel.types import MetricRow, VideoInfo


class JF(Metric):
    """Region similarity J and boundary accuracy F, proposals matched to objects once per video.

    N is the largest truth id of the first frame that is passed; objects with larger ids, which
    appear later, are background, and a missing id below N is an object that is empty throughout.
    Every passed frame counts; void (255) is taken out of both sides. J and F of all pairs of
    proposal and object are kept per frame, and one assignment maximises the sum of (J + F) / 2
    averaged over the frames. Proposals left over cost nothing; with fewer proposals than objects
    the rest are matched with empty masks. Both masks empty scores 1.

    Scores come as (sum over objects, number of objects): the score of a set is a mean over objects.
    Names: ``j``, ``f``, ``jf`` = (j + f) / 2, and ``j_recall``, ``j_decay``, ``f_recall``,
    ``f_decay``.

    Source: Caelles et al. 2019, arXiv:1905.00737, unsupervised track, and its official evaluation.
    Differs: decay stays right beyond 255 frames (``boundary.sequence_statistics``).

    Args:
        max_proposals: largest predicted id allowed; 20 in the official evaluation.
        bound_th: tolerance of F, as a fraction of the diagonal below 1, else in pixels.
        merge_objects: foreground against background as in DAVIS-2016: every id above 0 becomes 1
            in truth and prediction, and the object counts even if the first frame lacks it. 255
            stays void: data that marks its only object with 255 must be read with 255 as 1.

    Raises:
        ValueError: if ``max_proposals`` is not in 1 .. 255 or ``bound_th`` is no tolerance.
    """

    def __init__(
        self,
        *,
        max_proposals: int = 20,
        bound_th: float = BOUND_TH,
        merge_objects: bool = False,
    ) -> None:
        if not 1 <= max_proposals <= 255:
            raise ValueError(f"max_proposals={max_proposals} is not in 1..255; try 20")
        tolerance_radius(1, 1, bound_th)  # refuses a wrong tolerance before the first video
        self.max_proposals = max_proposals
        self.bound_th = bound_th
        self.merge_objects = merge_objects
        self._name: str | None = None

    def start(self, video: VideoInfo) -> None:
        """Forget the previous video."""
        self._name = video.id
        self._num_objects: int | None = None
        self._tables: list[tuple[np.ndarray, np.ndarray]] = []  # per frame: J, F (P_t + 1, N)

    def update(self, prediction: np.ndarray, truth: np.ndarray, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W); slot + 1 is the proposal's id, 0 = dropped background.
            truth: uint8 (H, W); 0 background, 255 = void.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size or a predicted id exceeds ``max_proposals``.
        """
        if self._name is None:
            raise RuntimeError("update() before start(video); call start once per video")
        where = f"video {self._name!r}, frame {frame}"
        check_label_maps(prediction, truth, where)
        if self.merge_objects:
            truth = np.where(truth == IGNORE, truth, truth > 0).astype(np.uint8)
            prediction = (prediction > 0).astype(np.uint8)
        num_proposals = int(prediction.max(initial=0))
        if num_proposals > self.max_proposals:
            raise ValueError(
                f"{where}: expected at most {self.max_proposals} proposals, got id "
                f"{num_proposals}; predict with num_slots={self.max_proposals} or fewer, or set "
                f"max_proposals={num_proposals} (not the official protocol)"
            )
        if self._num_objects is None:
            self._num_objects = 1 if self.merge_objects else max(label_count(truth) - 1, 0)
        self._tables.append(
            pair_scores(truth, prediction, self._num_objects, num_proposals, self.bound_th)
        )

    def finish(self) -> MetricRow:
        """Match proposals and objects and close the video.

        Returns:
            (sum over objects, N) per name; (0, 0) without frames or without object in the first.

        Raises:
            RuntimeError: if no video was started.
        """
        if self._name is None:
            raise RuntimeError("finish() before start(video); call start once per video")
        self._name = None
        if not self._num_objects:
            names = ("j", "f", "jf", "j_recall", "j_decay", "f_recall", "f_decay")
            return dict.fromkeys(names, (0.0, 0.0))
        j, f = (_stack_frames([table[side] for table in self._tables]) for side in (0, 1))
        rows, columns = assign_proposals(j, f)
        of_j = sequence_statistics(j[rows, columns])
        of_f = sequence_statistics(f[rows, columns])
        values = {
            "j": of_j.mean,
            "f": of_f.mean,
            "jf": (of_j.mean + of_f.mean) / 2,
            "j_recall": of_j.recall,
            "j_decay": of_j.decay,
            "f_recall": of_f.recall,
            "f_decay": of_f.decay,
        }
        return {name: (float(x.sum()), float(self._num_objects)) for name, x in values.items()}


def assign_proposals(j: np.ndarray, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one assignment with the largest sum of (J + F) / 2, averaged over frames.

    Args:
        j: float64 (P, N, T) with P >= N.
        f: float64 (P, N, T).

    Returns:
        Proposal and object indices, int64 (N,) each, counted from 0, sorted by proposal.
    """
    score = (j.mean(-1) + f.mean(-1)) / 2
    rows, columns = linear_sum_assignment(score, maximize=True)
    return rows, columns


def _stack_frames(tables: list[np.ndarray]) -> np.ndarray:
    """Tables (P_t + 1, N) of all frames as (P, N, T), P >= N.

    Proposals a frame does not have get its row 0, the scores of an empty proposal.
    """
    num_objects = tables[0].shape[1]
    num_proposals = max(num_objects, *(len(table) - 1 for table in tables))
    stacked = np.empty((num_proposals, num_objects, len(tables)))
    for t, table in enumerate(tables):
        stacked[:, :, t] = table[0]
        stacked[: len(table) - 1, :, t] = table[1:]
    return stacked
