"""The metrics of one video while its frames go by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import Metric
from slotreel.protocols.score_table import VideoFacts
from slotreel.protocols.segment import SegmentedFrame
from slotreel.types import MetricRow, Proposals, VideoInfo

IGNORE = 255


class VideoScores:
    """Feeds every metric what it reads and adds up the windows of a video.

    Args:
        protocol: its name, for messages.
        metrics: what is measured.
        video: the whole video.
        device: where label maps are counted.
    """

    def __init__(
        self,
        protocol: str,
        metrics: Sequence[Metric],
        video: VideoInfo,
        device: torch.device | str,
    ) -> None:
        self.protocol, self.metrics, self.video = protocol, metrics, video
        self.on_gpu = device if torch.device(device).type == "cuda" else None
        self.row: MetricRow = {}
        self._objects: dict[str, dict[str, float]] = {}
        self._pixels = np.zeros(256, dtype=np.int64)  # of every truth id
        self._num_points = 0
        self._frames = 0

    def start(self, window: VideoInfo) -> None:
        """A window (or the whole video) begins."""
        for metric in self.metrics:
            metric.start(window)

    def update(self, frame: SegmentedFrame) -> None:
        """Add a frame; one without annotation counts nowhere.

        Raises:
            DataError: if the frame has no truth of the kind a metric reads, or the prediction does
                not obey the protocol.
        """
        if not frame.annotated:
            return
        self._frames += 1
        if frame.truth is not None:
            self._pixels += np.bincount(frame.truth.ravel(), minlength=256)
        if frame.keypoints is not None:
            self._num_points = max(self._num_points, len(frame.keypoints))
        for metric in self.metrics:
            prediction, truth = self._read(metric, frame)
            try:
                metric.update(prediction, truth, frame.frame)
            except ValueError as error:  # more labels than the protocol allows, another size
                raise DataError(f"protocol {self.protocol}: {error}") from error

    def finish(self) -> None:
        """A window (or the whole video) is over: add its scores.

        Raises:
            ConfigError: if two metrics use one name.
            DataError: if the window is too short for a metric.
        """
        names: set[str] = set()
        for metric in self.metrics:
            try:
                scores = metric.finish()
            except ValueError as error:
                raise DataError(f"video {self.video.id!r}: {error}") from error
            if names & scores.keys():
                twice = ", ".join(sorted(names & scores.keys()))
                raise ConfigError(
                    f"protocol {self.protocol}: two metrics report {twice}; remove one"
                )
            names |= scores.keys()
            for name, (value, count) in scores.items():
                total, number = self.row.get(name, (0.0, 0.0))
                self.row[name] = (total + value, number + count)
            for name, values in metric.objects().items():
                self._objects.setdefault(name, {}).update(values)

    def facts(self) -> VideoFacts:
        """What was counted."""
        objects = int(np.count_nonzero(self._pixels[1:IGNORE])) or self._num_points
        return VideoFacts(self._frames, objects, self._objects)

    def _read(self, metric: Metric, frame: SegmentedFrame) -> tuple[Any, Any]:
        """Prediction and truth of the kind a metric reads."""
        if metric.reads == "points":
            if frame.keypoints is None or frame.prediction.points is None:
                raise self._lacks("keypoints", "validate=jhmdb_propagation")
            return frame.prediction.points, frame.keypoints
        if frame.truth is None or frame.labels is None:
            raise self._lacks("masks", "a set with masks (validate=...)")
        if metric.reads == "proposals":
            return _proposals(frame), self._place(frame.truth)
        return self._place(frame.labels), self._place(frame.truth)

    def _lacks(self, what: str, instead: str) -> DataError:
        return DataError(
            f"video {self.video.id!r} has no {what}: nothing to score; choose {instead}, "
            "or look at predictions with ./predict.py"
        )

    def _place(self, labels: np.ndarray) -> Any:
        """Label maps go to the GPU where there is one: they are a few hundred kilobytes."""
        return labels if self.on_gpu is None else torch.as_tensor(labels, device=self.on_gpu)


def _proposals(frame: SegmentedFrame) -> Proposals:
    """Soft masks with scores; a model that gives hard labels makes one proposal of each."""
    masks, scores = frame.prediction.masks, frame.prediction.scores
    if masks is None:
        assert frame.labels is not None, "checked by the caller"
        labels = torch.as_tensor(frame.labels)
        ids = labels.unique()
        masks = (labels == ids[ids > 0][:, None, None]).float()
    scores = torch.ones(len(masks)) if scores is None else scores
    first = 1 - frame.prediction.first_label  # mask 0 may be the background
    return Proposals(masks[first:], scores[first:])
