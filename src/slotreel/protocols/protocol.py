"""A protocol: everything that fixes a score besides the weights, and the code that measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
import torch

from slotreel.errors import ConfigError, DataError, nearest
from slotreel.interfaces import Metric, Objective, VideoSource
from slotreel.protocols.score_table import ScoreTable
from slotreel.protocols.segment import LabelledFrame, segment
from slotreel.streaming import as_size, evaluating
from slotreel.types import MaskSource, MetricRow, VideoInfo

__all__ = ["LabelledClip", "Protocol", "ScoreTable"]

IGNORE = 255  # a frame of nothing else has no annotation


class LabelledClip(NamedTuple):
    """A short video with its label maps, for pictures."""

    video: np.ndarray  # uint8 (T, H, W, 3)
    truth: np.ndarray | None  # uint8 (T, H0, W0)
    prediction: np.ndarray  # uint8 (T, H0, W0)


class Protocol:
    """How videos are read, segmented and scored; one object for training, eval and trivial rows.

    Videos are streamed whole, in order, with constant memory. Frames are resized (bilinear,
    antialias) to what the model expects, masks are brought back to the size of the truth before
    they are cut. Frames whose truth is 255 everywhere are seen by the model and not scored.

    Args:
        name: part of every logged key.
        metrics: what is measured; no two may use one name.
        masks: whose masks are scored: ``decoder``, ``grouper``, or ``auto`` (the decoder's if it
            has any, else the grouper's).
        image_size: size of the frames the model sees, pixels: one number for a square or
            [height, width]; null = the size the model was trained with.
        max_frames: no more than this many frames of each video, from its start; null = all.
        frame_stride: every n-th frame only; ``max_frames`` counts what is left.
        chunk: frames pushed at once; changes memory and speed, not the score of a causal model.
        max_videos: no more than this many videos, from the start of the source; null = all.

    Raises:
        ConfigError: if a number is not positive, there is no metric, or masks is unknown.
    """

    def __init__(
        self,
        *,
        name: str,
        metrics: Sequence[Metric],
        masks: MaskSource = "auto",
        image_size: int | Sequence[int] | None = None,
        max_frames: int | None = None,
        frame_stride: int = 1,
        chunk: int = 8,
        max_videos: int | None = None,
    ) -> None:
        if not metrics:
            raise ConfigError(f"protocol {name} has no metrics; expected at least one _target_")
        if masks not in get_args(MaskSource):
            raise ConfigError(f"masks={masks} is unknown; {nearest(masks, get_args(MaskSource))}")
        numbers = {"frame_stride": frame_stride, "chunk": chunk}
        limits = {"max_frames": max_frames, "max_videos": max_videos}
        numbers |= {key: value for key, value in limits.items() if value is not None}
        for key, value in numbers.items():
            if value < 1:
                raise ConfigError(f"expected {key} of at least 1, got {value}; type {key}=1")
        self.name, self.metrics, self.masks = name, list(metrics), masks
        self.image_size = None if image_size is None else as_size(image_size)
        self.max_frames, self.frame_stride = max_frames, frame_stride
        self.chunk, self.max_videos = chunk, max_videos

    def describe(self, image_size: int | Sequence[int] | None = None) -> str:
        """Everything that fixes the number, in one line.

        Args:
            image_size: the model's training size, used where the protocol leaves the size open.
        """
        size = self.image_size or (None if image_size is None else as_size(image_size))
        frames = "all frames" if self.max_frames is None else f"first {self.max_frames} frames"
        if self.frame_stride > 1:
            frames += f" at stride {self.frame_stride}"
        videos = "all videos" if self.max_videos is None else f"first {self.max_videos} videos"
        seen = f"{size[0]}x{size[1]} px" if size else "training size"
        metrics = ", ".join(_describe_metric(metric) for metric in self.metrics)
        return (
            f"{self.name}: {videos}, {frames}, whole video streamed, model sees {seen} "
            f"(bilinear, antialias); masks={self.masks}, bilinear to the size of the truth, then "
            f"argmax; frames without annotation skipped; {metrics}"
        )

    def run(
        self,
        objective: Objective,
        source: VideoSource,
        *,
        set_name: str,
        image_size: int | Sequence[int],
        device: torch.device | str,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] = lambda done, total: None,
        rank: int = 0,
        world_size: int = 1,
    ) -> ScoreTable | None:
        """Score this rank's share of the videos: number rank, rank + world_size, ...

        Args:
            objective: the model; in evaluation mode meanwhile and restored afterwards.
            source: videos with masks.
            set_name: name of the source in tables and logs.
            image_size: the model's training size, used where the protocol leaves the size open.
            device: where the model is.
            stop: polled before each video; once true, the evaluation is abandoned.
            progress: called with (videos done, videos to do) of this rank.
            rank: this rank's place among ``world_size``.
            world_size: ranks that share the videos; merge their tables for the set's.

        Returns:
            One row per video, or None if abandoned: an evaluation cut short has no score.

        Raises:
            DataError: if a video has no masks, shares its id, or cannot be read.
        """
        total = len(source) if self.max_videos is None else min(len(source), self.max_videos)
        table = ScoreTable(set_name, self.name, self.describe(image_size))
        share = range(rank, total, world_size)
        size = self.image_size or as_size(image_size)
        for done, index in enumerate(share):
            if stop():
                return None
            progress(done, len(share))
            video = source.info(index)
            if video.id in table.rows:
                raise DataError(f"two videos of {set_name} are called {video.id!r}; rename one")
            with evaluating(objective):
                frames = self._segment(objective, source, index, size, device)
                table.rows[video.id] = self._score(video, frames)
        progress(len(share), len(share))
        return table

    def clip(
        self,
        objective: Objective,
        source: VideoSource,
        index: int,
        *,
        image_size: int | Sequence[int],
        device: torch.device | str,
    ) -> LabelledClip:
        """One video as this protocol sees it, all frames in memory: for pictures of short clips.

        Args:
            objective: the model.
            source: videos, with or without masks.
            index: which video.
            image_size: the model's training size, used where the protocol leaves the size open.
            device: where the model is.
        """
        size = self.image_size or as_size(image_size)
        with evaluating(objective):
            frames = list(self._segment(objective, source, index, size, device))
        raw = source.read(index, self._plan(source.info(index)))
        return LabelledClip(raw.video, raw.labels, np.stack([frame.prediction for frame in frames]))

    def _plan(self, video: VideoInfo) -> list[int]:
        """Numbers of the frames to push."""
        return list(range(0, video.num_frames, self.frame_stride))[: self.max_frames]

    def _segment(
        self,
        objective: Objective,
        source: VideoSource,
        index: int,
        size: tuple[int, int],
        device: torch.device | str,
    ) -> Iterator[LabelledFrame]:
        return segment(
            objective,
            source,
            index,
            self._plan(source.info(index)),
            masks=self.masks,
            chunk=self.chunk,
            image_size=size,
            device=device,
        )

    def _score(self, video: VideoInfo, frames: Iterable[LabelledFrame]) -> MetricRow:
        """Metric row of one video."""
        for metric in self.metrics:
            metric.start(video)
        for frame, prediction, truth in frames:
            if truth is None:
                raise DataError(
                    f"video {video.id!r} has no masks: nothing to score; choose a set with masks "
                    "(validate=...), or look at predictions with ./predict.py"
                )
            if not (truth == IGNORE).all():
                for metric in self.metrics:
                    metric.update(prediction, truth, frame)
        row: MetricRow = {}
        for metric in self.metrics:
            scores = metric.finish()
            if row.keys() & scores.keys():
                twice = ", ".join(sorted(row.keys() & scores.keys()))
                raise ConfigError(f"protocol {self.name}: two metrics report {twice}; remove one")
            row |= scores
        return row


def _describe_metric(metric: Metric) -> str:
    """Name and public settings of a metric, as they stand after construction."""
    settings = [f"{k}={v}" for k, v in vars(metric).items() if not k.startswith("_")]
    return f"{type(metric).__name__}({', '.join(settings)})"
