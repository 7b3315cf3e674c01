"""J&F of a video under the two DAVIS-2017 protocols, streamed: given objects or proposals."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from slotreel.metrics.arrays import Pixels, as_tensors
from slotreel.metrics.boundary import BOUND_TH, sequence_statistics, tolerance_radius
from slotreel.metrics.functional import IGNORE, check_label_maps, label_count
from slotreel.metrics.pairs import matched_scores, pair_scores
from slotreel.metrics.streamed import NOTHING, StreamedMetric, check_option
from slotreel.types import MetricRow

Scores = tuple[np.ndarray, np.ndarray]  # J and F
NAMES = ("j", "f", "jf", "j_recall", "j_decay", "f_recall", "f_decay")


class JF(StreamedMetric):
    """Region similarity J and boundary accuracy F of every object of the first frame.

    | name | score of an object |
    |---|---|
    | j, f | mean of J, of F over the scored frames |
    | jf | (j + f) / 2 |
    | j_recall, f_recall | share of scored frames above 0.5 |
    | j_decay, f_decay | mean of the first quarter minus mean of the last; less is better |

    Every name counts objects: (sum over objects, N), so a set's score is a mean over its objects.
    N is the largest truth id of the first frame that is passed; larger ids, which appear later, are
    background, and a missing id below N is an object that is empty throughout. Both masks empty
    score 1, and so does a frame that is all void.

    | matching | sequence | identity |
    |---|---|---|
    | track | unsupervised | semi-supervised: the first frame was given |
    | which mask is whose | one assignment per video, of the largest mean (J + F) / 2 | equal ids |
    | scored frames | all | all but the first and the last that are passed |
    | void (255 in truth) | leaves both masks | is background: predictions on it cost |
    | largest predicted id | ``max_proposals`` | N |

    In ``sequence`` proposals left over cost nothing, and with fewer proposals than objects the rest
    are matched with empty masks.

    Source: Pont-Tuset et al. 2017, arXiv:1704.00675, and Caelles et al. 2019, arXiv:1905.00737,
    unsupervised track, with their official evaluation.
    Differs: decay stays right beyond 255 frames (``boundary.sequence_statistics``). In ``sequence``
    the official code lists its results in the order of the proposals and then calls them object 1
    to N, so its names are permuted; ``objects()`` goes by the true ids. Means agree.

    Args:
        matching: ``sequence`` or ``identity``, see the table.
        max_proposals: in ``sequence``, the largest predicted id allowed; 20 in the official
            evaluation.
        bound_th: tolerance of F, as a fraction of the diagonal below 1, else in pixels.
        merge_objects: foreground against background as in DAVIS-2016: every id above 0 becomes 1
            in truth and prediction, and the object counts even if the first frame lacks it. 255
            stays void: data that marks its only object with 255 must be read with 255 as 1.

    Raises:
        ValueError: if ``matching`` is unknown, ``max_proposals`` is not in 1 .. 255 or ``bound_th``
            is no tolerance.
    """

    def __init__(
        self,
        *,
        matching: Literal["sequence", "identity"] = "sequence",
        max_proposals: int = 20,
        bound_th: float = BOUND_TH,
        merge_objects: bool = False,
    ) -> None:
        check_option("matching", matching, ("sequence", "identity"))
        if not 1 <= max_proposals <= 255:
            raise ValueError(f"max_proposals={max_proposals} is not in 1..255; try 20")
        tolerance_radius(1, 1, bound_th)  # refuses a wrong tolerance before the first video
        self.matching = matching
        self.score_ends = matching != "identity"
        self.max_proposals = max_proposals
        self.bound_th = bound_th
        self.merge_objects = merge_objects

    def _reset(self) -> None:
        self._num_objects: int | None = None
        self._frames: list[Scores] = []  # J and F of a frame: (P_t + 1, N), or (N,) of equal ids
        self._excess = ""  # what is wrong with the latest frame, unless it turns out the last
        self._objects: dict[str, dict[str, float]] = {}

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: uint8 (H, W); slot + 1 is the proposal's id, 0 = dropped background.
            truth: uint8 (H, W); 0 background, 255 = void.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            TypeError: if a map is not uint8.
            ValueError: if the maps differ in size or a predicted id exceeds what the protocol
                allows; under ``identity`` the last frame is exempt, so the call after says so.
        """
        where = self._where(frame)
        check_label_maps(prediction, truth, where)
        if self._excess:
            raise ValueError(self._excess)
        predicted, true = as_tensors(prediction, truth)
        if self.merge_objects:
            true = true.clamp(max=1).masked_fill(true == IGNORE, IGNORE)
            predicted = predicted.clamp(max=1)
        if self._num_objects is None:
            self._num_objects = 1 if self.merge_objects else max(label_count(true) - 1, 0)
        if self.matching == "identity":
            self._frames.append(self._score_given(predicted, true, where))
        else:
            self._frames.append(self._score_proposals(predicted, true, where))

    def objects(self) -> dict[str, dict[str, float]]:
        """Every name of the class for each object of the video just finished, by its true id."""
        return self._objects

    def _score_given(self, predicted: Tensor, true: Tensor, where: str) -> Scores:
        """J and F (N,) of equal ids; ids above N wait for the next frame to be an error."""
        found, allowed = int(predicted.max()), self._num_objects or 0
        if found > allowed:
            if self._frames:  # what is predicted for the first frame is never looked at
                self._excess = (
                    f"{where}: expected predicted ids up to {allowed}, the objects of the first "
                    f"frame, got id {found}; the official evaluation stops here too. Give the "
                    "objects their true ids, or type protocol=vos to match proposals with objects"
                )
            predicted = predicted.masked_fill(predicted > allowed, 0)
        return matched_scores(true, predicted, allowed, self.bound_th)

    def _score_proposals(self, predicted: Tensor, true: Tensor, where: str) -> Scores:
        """J and F (P + 1, N) of all pairs."""
        found = int(predicted.max())
        if found > self.max_proposals:
            raise ValueError(
                f"{where}: expected at most {self.max_proposals} proposals, got id {found}; "
                f"predict with num_slots={self.max_proposals} or fewer, or set "
                f"max_proposals={found} (not the official protocol)"
            )
        return pair_scores(true, predicted, self._num_objects or 0, found, self.bound_th)

    def _close(self) -> MetricRow:
        if self.matching == "identity":
            if len(self._frames) < 3:
                raise ValueError(
                    "matching=identity scores all annotated frames but the first and the last, so "
                    f"it needs at least 3, got {len(self._frames)}; leave the video out, or type "
                    "protocol=vos, which scores every frame"
                )
            self._frames = self._frames[1:-1]
        if not self._num_objects:
            return dict.fromkeys(NAMES, NOTHING)
        if self.matching == "identity":
            ids = np.arange(self._num_objects)
            j, f = (np.stack([frame[side] for frame in self._frames], -1) for side in (0, 1))
        else:
            j, f = (stack_proposals([frame[side] for frame in self._frames]) for side in (0, 1))
            rows, ids = assign_proposals(j, f)
            j, f = j[rows, ids], f[rows, ids]
        values = _summarise(j, f)
        self._objects = {
            str(ids[n] + 1): {name: float(values[name][n]) for name in NAMES}
            for n in np.argsort(ids)
        }
        return {name: (float(values[name].sum()), float(self._num_objects)) for name in NAMES}


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


def stack_proposals(tables: list[np.ndarray]) -> np.ndarray:
    """Scores of all pairs in all frames; proposals that a frame does not have are empty there.

    Args:
        tables: float64 (P_t + 1, N) of each frame; row 0 is an empty proposal.

    Returns:
        float64 (P, N, T) with P the largest of N and all P_t.
    """
    num_objects = tables[0].shape[1]
    num_proposals = max(num_objects, *(len(table) - 1 for table in tables))
    stacked = np.empty((num_proposals, num_objects, len(tables)))
    for t, table in enumerate(tables):
        stacked[:, :, t] = table[0]
        stacked[: len(table) - 1, :, t] = table[1:]
    return stacked


def _summarise(j: np.ndarray, f: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (N,) by name from J and F (N, T)."""
    of_j, of_f = sequence_statistics(j), sequence_statistics(f)
    return {
        "j": of_j.mean,
        "f": of_f.mean,
        "jf": (of_j.mean + of_f.mean) / 2,
        "j_recall": of_j.recall,
        "j_decay": of_j.decay,
        "f_recall": of_f.recall,
        "f_decay": of_f.decay,
    }
