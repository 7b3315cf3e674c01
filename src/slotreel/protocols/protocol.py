"""A protocol: everything that fixes a score besides the weights, and the code that measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from slotreel.errors import ConfigError, DataError, nearest
from slotreel.inference.background import BackgroundRule
from slotreel.interfaces import Metric, Objective, VideoSource
from slotreel.protocols.conditions import Conditions
from slotreel.protocols.describe import describe
from slotreel.protocols.framing import parse_framing
from slotreel.protocols.score_table import ScoreTable, VideoFacts
from slotreel.protocols.scoring import VideoScores
from slotreel.protocols.segment import SegmentedFrame, segment
from slotreel.protocols.windows import Window, check_remainder, plan_windows
from slotreel.streaming import as_size, evaluating
from slotreel.types import MaskSource, MetricRow, VideoInfo

__all__ = ["LabelledClip", "Protocol", "ScoreTable"]

Size = tuple[int, int]


class LabelledClip(NamedTuple):
    """A short video with its label maps, for pictures."""

    video: np.ndarray  # uint8 (T, H, W, 3)
    truth: np.ndarray | None  # uint8 (T, H0, W0)
    prediction: np.ndarray  # uint8 (T, H0, W0)


class Protocol:
    """How videos are read, segmented and scored; one object for training, eval and trivial rows.

    Videos are streamed in order with constant memory. Masks are brought back to the size of
    comparison before they are cut. Frames without annotation are seen by the model and not scored;
    a frame whose truth is void everywhere is annotated, and each metric says what it scores.

    Args:
        name: part of every logged key.
        metrics: what is measured; no two may use one name.
        data: arguments of the set of videos that belong to the protocol, e.g. ``{split: val}``;
            they replace the set's own.
        through: makes of a model with features the model that is scored, e.g. label propagation;
            null scores the model's own masks. Models without features answer for themselves.
        masks: whose masks are scored: ``decoder``, ``grouper``, or ``auto`` (the decoder's if it
            has any, else the grouper's).
        background: which slot becomes background (label 0): ``none``, ``largest``, ``border`` or a
            slot's number, decided on the first frames of each video.
        tracks: makes of the model one whose slots are linked over time or limited in number, see
            ``Tracks``; null takes the model's slots as they are.
        image_size: size of the frames the model sees, pixels: one number for a square or
            [height, width]; null = what the model asks for, usually its training size.
        interpolation: how frames are brought to that size: nearest, bilinear or bicubic.
        antialias: average over what a smaller size leaves out.
        normalisation: ``{mean: [...], std: [...]}`` in place of what the backbone's weights were
            trained with, where a published evaluation did so; null leaves the backbone's own.
        num_iters: rounds of the grouper per frame in place of those it was trained with (a first
            frame that has its own number keeps it); null leaves them.
        crop: ``whole`` frames, or the ``centre_square`` of frames and truth.
        compare: at the size of the ``truth``, or at the size the ``model`` sees.
        max_frames: no more than this many frames of each video, from its start; null = all.
        frame_stride: every n-th frame only; ``max_frames`` counts what is left.
        window: frames of a window that is segmented and scored as a video of its own; null = whole.
        remainder: a last window that is too short is scored as it is (``keep``), left out
            (``drop``), or completed with the video's last frames after its own, which are not
            scored (``complete``).
        chunk: frames pushed at once; changes memory and speed, not the score of a causal model.
        max_videos: no more than this many videos, from the start of the source; null = all.

    Raises:
        ConfigError: if a number is not positive, there is no metric, or a word is unknown.
    """

    def __init__(
        self,
        *,
        name: str,
        metrics: Sequence[Metric],
        data: Mapping[str, Any] | None = None,
        through: Callable[[Objective], Objective] | None = None,
        masks: MaskSource = "auto",
        background: str | int = "none",
        tracks: Callable[[Objective], Objective] | None = None,
        image_size: int | Sequence[int] | None = None,
        interpolation: str = "bilinear",
        antialias: bool = True,
        normalisation: Mapping[str, Sequence[float]] | None = None,
        num_iters: int | None = None,
        crop: str = "whole",
        compare: str = "truth",
        max_frames: int | None = None,
        frame_stride: int = 1,
        window: int | None = None,
        remainder: str = "keep",
        chunk: int = 8,
        max_videos: int | None = None,
    ) -> None:
        if not metrics:
            raise ConfigError(f"protocol {name} has no metrics; expected at least one _target_")
        if masks not in get_args(MaskSource):
            raise ConfigError(f"masks={masks} is unknown; {nearest(masks, get_args(MaskSource))}")
        limits = {"max_frames": max_frames, "max_videos": max_videos, "window": window}
        limits["num_iters"] = num_iters
        numbers = {"frame_stride": frame_stride, "chunk": chunk}
        numbers |= {key: value for key, value in limits.items() if value is not None}
        for key, value in numbers.items():
            if value < 1:
                raise ConfigError(f"expected {key} of at least 1, got {value}; type {key}=1")
        self.name, self.metrics, self.masks = name, list(metrics), masks
        self.data, self.through = dict(data or {}), through
        self.conditions = Conditions(normalisation, num_iters)
        self.background, self.tracks = BackgroundRule(background), tracks
        self.framing = parse_framing(image_size, interpolation, antialias, crop, compare)
        self.max_frames, self.frame_stride = max_frames, frame_stride
        self.window, self.remainder = window, check_remainder(remainder)
        self.chunk, self.max_videos = chunk, max_videos

    def describe(self, image_size: int | Sequence[int] | None = None) -> str:
        """Everything that fixes the number, in one line.

        Args:
            image_size: the model's training size, used where the protocol leaves the size open.
        """
        return describe(self, None if image_size is None else as_size(image_size))

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
        save: Callable[[VideoInfo, SegmentedFrame], None] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> ScoreTable | None:
        """Score this rank's share of the videos: number rank, rank + world_size, ...

        Args:
            objective: the model; in evaluation mode meanwhile and restored afterwards.
            source: videos with truth.
            set_name: name of the source in tables and logs.
            image_size: the model's training size, used where the protocol leaves the size open.
            device: where the model is.
            stop: polled before each video; once true, the evaluation is abandoned.
            progress: called with (videos done, videos to do) of this rank.
            save: called with every frame, scored or not.
            rank: this rank's place among ``world_size``.
            world_size: ranks that share the videos; merge their tables for the set's.

        Returns:
            One row per video, or None if abandoned: an evaluation cut short has no score.

        Raises:
            DataError: if a video has no truth, shares its id, cannot be read, or a prediction does
                not obey the protocol.
        """
        total = len(source) if self.max_videos is None else min(len(source), self.max_videos)
        table = ScoreTable(set_name, self.name, self.describe(image_size))
        share = range(rank, total, world_size)
        scored = self.scored(objective)
        for done, index in enumerate(share):
            if stop():
                return None
            progress(done, len(share))
            video = source.info(index)
            if video.id in table.rows:
                raise DataError(f"two videos of {set_name} are called {video.id!r}; rename one")
            with evaluating(scored), self.conditions.imposed(scored):
                row, facts = self._score(scored, source, index, as_size(image_size), device, save)
                table.rows[video.id], table.facts[video.id] = row, facts
        progress(len(share), len(share))
        return table

    def scored(self, objective: Objective) -> Objective:
        """What is scored in a model's place: its features read ``through`` something, tracks."""
        if self.through is not None and objective.has_features():
            objective = self.through(objective)
        return objective if self.tracks is None else self.tracks(objective)

    def ends_are_scored(self) -> bool:
        """Whether any metric counts the first and the last frame of a video."""
        return any(metric.score_ends for metric in self.metrics)

    def clip(
        self,
        objective: Objective,
        source: VideoSource,
        index: int,
        *,
        image_size: int | Sequence[int],
        device: torch.device | str,
        max_frames: int | None = None,
    ) -> LabelledClip | None:
        """One video as this protocol sees it, all frames in memory: for pictures of short clips.

        Args:
            objective: the model.
            source: videos, with or without masks.
            index: which video.
            image_size: the model's training size, used where the protocol leaves the size open.
            device: where the model is.
            max_frames: no more than so many of its first frames.

        Returns:
            The clip, or None where the model says points.
        """
        objective = self.scored(objective)
        numbers = self._plan(source.info(index))[:max_frames]
        remainder = self.remainder if max_frames is None else "keep"
        with evaluating(objective), self.conditions.imposed(objective):
            maps = [
                frame.labels
                for window in plan_windows(numbers, self.window, remainder)
                for frame in self._segment(
                    objective, source, index, window, as_size(image_size), device
                )
                if frame.labels is not None
            ]
        if not maps:
            return None
        raw = self.framing.cut(source.read(index, numbers[: len(maps)]))
        return LabelledClip(raw.video, raw.labels, np.stack(maps))

    def _plan(self, video: VideoInfo) -> list[int]:
        """Numbers of the frames to push."""
        return list(range(0, video.num_frames, self.frame_stride))[: self.max_frames]

    def _segment(
        self,
        objective: Objective,
        source: VideoSource,
        index: int,
        window: Window,
        image_size: Size,
        device: torch.device | str,
    ) -> Iterator[SegmentedFrame]:
        """Frames of one window, those left out that only complete it."""
        frames = segment(
            objective,
            source,
            window.video(source.info(index)),
            index,
            window.frames,
            masks=self.masks,
            chunk=self.chunk,
            framing=self.framing,
            trained_size=image_size,
            device=device,
            background=self.background,
        )
        for position, frame in enumerate(frames):
            if position < window.num_scored:
                yield frame

    def _score(
        self,
        objective: Objective,
        source: VideoSource,
        index: int,
        image_size: Size,
        device: torch.device | str,
        save: Callable[[VideoInfo, SegmentedFrame], None] | None,
    ) -> tuple[MetricRow, VideoFacts]:
        """Metric row and facts of one video."""
        video = source.info(index)
        scores = VideoScores(self.name, self.metrics, video, device)
        for window in plan_windows(self._plan(video), self.window, self.remainder):
            scores.start(window.video(video))
            for frame in self._segment(objective, source, index, window, image_size, device):
                if save is not None:
                    save(video, frame)
                scores.update(frame)
            scores.finish()
        return scores.row, scores.facts()
