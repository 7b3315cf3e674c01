"""PCK: how many propagated joints end up close enough to the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

from slotreel.metrics.arrays import Pixels
from slotreel.metrics.streamed import StreamedMetric
from slotreel.types import MetricRow

SIZE = 0.6  # of a person, as a fraction of the diagonal of the box around the joints


class PCK(StreamedMetric):
    """Percentage of correct keypoints, as on JHMDB: a score per joint and threshold.

    | name | counted | score |
    |---|---|---|
    | pck_0.1/joint00, ... | frames with that joint | share within 0.1 of the person's size |

    The score ``pck_0.1`` is the plain mean over joints, not over points. The first frame that is
    passed was given and is not scored. A joint takes part in a frame if the prediction sees it
    (x >= 0) and the truth has it. The person's size is 0.6 of the diagonal of the box around the
    true joints that take part.

    Note: the prediction decides what it is judged on. Calling a joint unseen costs nothing, so a
    model that never answers has no score instead of a bad one; look at the counts.

    Source: Jhuang et al. 2013 (JHMDB); rules of the evaluation in the code of Jabri et al. 2020,
    arXiv:2006.14613.
    Differs: a joint without truth (NaN) is left out; the original has truth everywhere.

    Args:
        thresholds: distances that are close enough, as fractions of the person's size.

    Raises:
        ValueError: if there is no threshold or one is not positive.
    """

    reads: ClassVar[Literal["labels", "proposals", "points"]] = "points"

    def __init__(self, *, thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5)) -> None:
        if not thresholds or min(thresholds) <= 0:
            raise ValueError(
                f"thresholds={list(thresholds)}: expected numbers above 0; try thresholds=[0.1,0.2]"
            )
        self.thresholds = list(thresholds)

    def _reset(self) -> None:
        self._hits: np.ndarray | None = None  # (thresholds, J), frames with a hit
        self._counts = np.zeros(0)  # (J,), frames in which a joint took part

    def update(self, prediction: Pixels, truth: Pixels, frame: int) -> None:
        """Add one annotated frame.

        Args:
            prediction: float (J, 2), x and y in pixels; x < 0 = called unseen.
            truth: float (J, 2); NaN = no annotation.
            frame: number of the frame, for messages.

        Raises:
            RuntimeError: if no video was started.
            ValueError: if the shapes differ from each other or from the first frame's.
        """
        where = self._where(frame)
        predicted, true = (torch.as_tensor(x).double().cpu().numpy() for x in (prediction, truth))
        num_joints = len(true) if self._hits is None else len(self._counts)
        if true.shape != (num_joints, 2) or predicted.shape != true.shape:
            raise ValueError(
                f"{where}: expected prediction and truth ({num_joints}, 2), x and y of every "
                f"joint, got {predicted.shape} and {true.shape}; a joint that is not seen stays in "
                "its row with x = -1"
            )
        if self._hits is None:
            self._hits = np.zeros((len(self.thresholds), num_joints))
            self._counts = np.zeros(num_joints)
            return
        seen = (predicted[:, 0] >= 0) & ~np.isnan(true).any(1)
        if seen.any():
            size = SIZE * float(np.linalg.norm(np.ptp(true[seen], axis=0)))
            distance = np.linalg.norm(predicted - true, axis=1)
            reach = np.array(self.thresholds)[:, None] * size
            self._hits += (distance <= reach) & seen
            self._counts += seen

    def _close(self) -> MetricRow:
        hits = np.zeros((len(self.thresholds), 0)) if self._hits is None else self._hits
        return {
            f"pck_{threshold:g}/joint{joint:02d}": (float(total), float(self._counts[joint]))
            for threshold, row in zip(self.thresholds, hits, strict=True)
            for joint, total in enumerate(row)
        }
