"""Videos in memory and models whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slotreel.interfaces import Objective, Stream, VideoSource
from slotreel.types import Batch, LossOutput, MaskSource, Prediction, Progress, RawClip, VideoInfo


class MemoryVideos(VideoSource):
    """Label maps (T, H, W) per video; frames show each label in a colour of its own."""

    def __init__(self, videos: Mapping[str, np.ndarray], *, masks: bool = True) -> None:
        self.videos, self.names, self.masks = dict(videos), list(videos), masks
        self.annotated: np.ndarray | None = None  # of every video

    def __len__(self) -> int:
        return len(self.names)

    def info(self, index: int) -> VideoInfo:
        labels = self.videos[self.names[index]]
        return VideoInfo(self.names[index], len(labels), labels.shape[1:])

    def read(self, index: int, frames: Sequence[int]) -> RawClip:
        labels = self.videos[self.names[index]][list(frames)]
        colours = np.array([[20, 20, 20], [250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)
        video = colours[np.where(labels == 255, 0, labels)]
        known = None if self.annotated is None else self.annotated[list(frames)]
        return RawClip(video, labels if self.masks else None, np.asarray(frames), {}, known)


class Answers(Objective):
    """Predicts what a function of (video, position, pushed frame) says; has state to restore."""

    def __init__(
        self, answer: Callable[[VideoInfo, int, Tensor], Prediction], *, wait: bool = False
    ) -> None:
        super().__init__()
        self.answer, self.wait = answer, wait
        self.layer = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
        self.seen: list[tuple[str, tuple[int, ...], bool, bool]] = []

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        raise NotImplementedError

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        return _AnswerStream(self, video)


class _AnswerStream(Stream):
    def __init__(self, owner: Answers, video: VideoInfo) -> None:
        self.owner, self.video = owner, video
        self.done: list[Prediction] = []
        self.count = 0

    def push(self, frames: Tensor, hints: Mapping[str, Any] | None = None) -> list[Prediction]:
        mode = (self.owner.training, torch.is_grad_enabled())
        self.owner.seen.append((self.video.id, tuple(frames.shape), *mode))
        assert hints is None
        ready = [self.owner.answer(self.video, self.count + i, x) for i, x in enumerate(frames)]
        self.count += len(frames)
        if self.owner.wait:
            self.done += ready
            return []
        return ready

    def finish(self) -> list[Prediction]:
        return self.done


def scene(num_frames: int, seed: int, size: tuple[int, int] = (16, 24)) -> np.ndarray:
    """Two rectangles that move, labels 1 and 2."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((num_frames, *size), dtype=np.uint8)
    y = rng.integers(1, size[0] - 8, 2)
    for t in range(num_frames):
        labels[t, y[0] : y[0] + 6, 1 + t : 6 + t] = 1
        labels[t, y[1] : y[1] + 4, 14:20] = 2
    return labels


@pytest.fixture
def videos() -> MemoryVideos:
    return MemoryVideos({f"v{i}": scene(5 + i, i) for i in range(5)})


@pytest.fixture
def perfect(videos: MemoryVideos) -> Answers:
    return Answers(lambda video, t, frame: Prediction(t, labels=videos.videos[video.id][t] + 1))


@pytest.fixture
def make_videos() -> type[MemoryVideos]:
    return MemoryVideos


@pytest.fixture
def make_answers() -> type[Answers]:
    return Answers
