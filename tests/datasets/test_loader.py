"""Clips and batches: the same bytes on any number of workers, from any step."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from slotreel.data.clips import TrainingClips
from slotreel.data.loader import collate, to_device, training_loader
from slotreel.data.sampler import GlobalBatches, SampleKey
from slotreel.data.sources.davis import Davis
from slotreel.data.transforms import HorizontalFlip, RandomResizedCrop, Resize
from slotreel.errors import ConfigError, DataError
from slotreel.interfaces import VideoSource
from slotreel.types import Batch, FrameFeatures
from tests.datasets.helpers import DAVIS, ROOT, Broken, Counting


def many_clips(
    num_views: int = 2, seed: int = 3, source: VideoSource | None = None
) -> TrainingClips:
    transforms = [RandomResizedCrop(8), HorizontalFlip()]
    return TrainingClips(source or Counting([6, 3, 9, 5]), 3, 1, transforms, num_views, seed)


def leaves(batch: Batch) -> list[torch.Tensor]:
    assert batch.labels is not None
    return [*batch.views, batch.frames, batch.clip_id, batch.labels, *batch.hints.values()]


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(leaves(one), leaves(other), strict=True)
    )


@pytest.mark.slow  # starts eight processes
def test_bytes_do_not_depend_on_workers_or_start_and_errors_keep_their_place() -> None:
    last = GlobalBatches(20, 4, seed=1).batch(4)[-1].index
    clips = many_clips(source=Broken([7] * 20, bad=last))
    runs: list[list[Batch]] = []
    for num_workers, start_step in ((0, 0), (2, 1)):
        loader = training_loader(clips, 4, 1, start_step=start_step, num_workers=num_workers)
        batches = iter(loader)
        runs.append([next(batches) for _ in range(4 - start_step)])
        with pytest.raises(DataError, match=rf"^cannot read the video v{last}: made so$"):
            next(batches)
    assert equal(runs[1], runs[0][1:])


def test_ranks_together_read_what_one_reads() -> None:
    clips = many_clips()
    halves = [islice(training_loader(clips, 4, 1, rank, 2), 6) for rank in range(2)]
    joined = [
        Batch(
            tuple(torch.cat(pair) for pair in zip(a.views, b.views, strict=True)),
            torch.cat([a.frames, b.frames]),
            torch.cat([a.clip_id, b.clip_id]),
            labels=torch.cat([x.labels for x in (a, b) if x.labels is not None]),
        )
        for a, b in zip(*halves, strict=True)
    ]
    assert equal(joined, list(islice(training_loader(clips, 4, seed=1), 6)))


def test_sample_is_a_function_of_its_key() -> None:
    clips, again = many_clips(), many_clips()
    first = clips[SampleKey(1, 2, 6)]
    again[SampleKey(5, 0, 20)]
    second = again[SampleKey(1, 2, 6)]
    assert all(torch.equal(a, b) for a, b in zip(first.views, second.views, strict=True))
    assert (first.views[0].shape, first.views[0].dtype) == ((3, 3, 8, 8), torch.uint8)
    assert first.labels is not None
    assert first.labels.shape == (3, 8, 8)
    assert first.clip_id == 6
    assert not torch.equal(*first.views)
    assert torch.equal(first.views[0], many_clips(num_views=1)[SampleKey(1, 2, 6)].views[0])
    for other in (clips[SampleKey(2, 2, 6)], many_clips(seed=4)[SampleKey(1, 2, 6)]):
        assert not torch.equal(first.views[0], other.views[0])


def test_clips_start_anywhere_and_keep_the_stride() -> None:
    clips = TrainingClips(Counting([9, 7]), 3, 3)
    starts = set()
    for epoch in range(60):
        sample = clips[SampleKey(epoch, 0, 0)]
        start = int(sample.frames[0])
        assert sample.frames.tolist() == [start, start + 3, start + 6]
        assert sample.views[0][:, 1, 0, 0].tolist() == sample.frames.tolist()
        starts.add(start)
    assert starts == {0, 1, 2}
    assert clips[SampleKey(0, 1, 0)].frames.tolist() == [0, 3, 6]


def test_tiled_clips_start_at_multiples_of_their_span() -> None:
    clips = TrainingClips(Counting([24, 27, 11]), 4, starts="tiled")
    assert len(clips) == 3
    starts: list[set[int]] = [set(), set(), set()]
    for epoch in range(40):
        for video in range(3):
            frames = clips[SampleKey(epoch, video, 0)].frames.tolist()
            assert frames == list(range(frames[0], frames[0] + 4))
            starts[video].add(frames[0])
    assert starts == [{0, 4, 8, 12, 16, 20}, {0, 4, 8, 12, 16, 20}, {0, 4}]
    strided = TrainingClips(Counting([21]), 3, 3, starts="tiled")  # a clip spans 7 frames
    first = {strided[SampleKey(n, 0, 0)].frames.tolist()[0] for n in range(40)}
    assert first == {0, 7, 14}
    with pytest.raises(ConfigError, match=r"clip_starts=tile: did you mean: tiled"):
        TrainingClips(Counting([4]), 1, starts="tile")


def test_short_videos_are_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        clips = TrainingClips(Counting([9, 6, 7, 2]), 3, 3)
    assert clips.videos == [0, 2]
    assert len(caplog.records) == 1
    assert "2 of 4 videos are left out" in caplog.text
    assert "v1 (6), v3 (2)" in caplog.text
    with pytest.raises(DataError, match=r"none of 2 videos has the 5 frames .*longest has 4"):
        TrainingClips(Counting([4, 3]), 5)
    with pytest.raises(ConfigError, match=r"frame_stride=0: expected 1 or more"):
        TrainingClips(Counting([4]), 1, 0)


def test_damaged_frame_is_named(tmp_path: Path) -> None:
    shutil.copytree(DAVIS, tmp_path / "davis")
    (tmp_path / "davis/JPEGImages/480p/surf/00003.jpg").write_bytes(b"oops")
    clips = TrainingClips(Davis(str(tmp_path / "davis"), split="train"), 8)
    with pytest.raises(DataError, match=r"^cannot read the picture .*00003.jpg: "):
        next(iter(training_loader(clips, 2, 0)))


LEAVES_WORKERS_BEHIND = """
import multiprocessing, os, signal
from slotreel.data.clips import TrainingClips
from slotreel.data.loader import training_loader
from tests.datasets.helpers import Counting

if __name__ == "__main__":
    batches = iter(training_loader(TrainingClips(Counting([6] * 4), 2), 2, 0, num_workers=1))
    seen = [next(batches).clip_id.tolist() for _ in range(2)]
    for name in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, name)
        seen += [next(batches).clip_id.tolist() for _ in range(4)]
    print(seen)
    signal.alarm(30)
    raise RuntimeError("with the loader alive")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="POSIX signals")
@pytest.mark.slow
def test_workers_outlive_signals_of_a_scheduler_but_not_their_parent(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(LEAVES_WORKERS_BEHIND)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "run.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    assert done.stdout.strip() == str([[2 * n, 2 * n + 1] for n in range(14)])
    assert "RuntimeError: with the loader alive" in done.stderr


def test_batches_of_several_sizes_are_refused() -> None:
    small, large = (TrainingClips(Counting([6], (n, n)), 2)[SampleKey(0, 0, 0)] for n in (4, 8))
    with pytest.raises(DataError, match=r"differ in view 0: .*\(2, 3, 4, 4\), \(2, 3, 8, 8\)"):
        collate([small, large])
    clips = TrainingClips(Davis(str(DAVIS)), 2)
    with pytest.raises(DataError, match=r"dataset.transform=\["):
        next(iter(training_loader(clips, 3, 0)))


def test_labels_and_hints_that_some_clips_lack_are_left_out() -> None:
    sample = TrainingClips(Counting([6]), 2)[SampleKey(0, 0, 0)]
    hinted = sample._replace(hints={"boxes": torch.zeros(2, 1, 4)})
    assert collate([hinted, hinted]).hints["boxes"].shape == (2, 2, 1, 4)
    assert collate([hinted, sample]).hints == {}
    assert collate([sample, sample._replace(labels=None)]).labels is None


def test_to_device_makes_floats_of_pixels_only() -> None:
    clips = TrainingClips(Counting([6, 6]), 2, transforms=[Resize(8)])
    batch = next(iter(training_loader(clips, 2, 0)))
    tokens = torch.zeros(2, 2, 4, 5)
    moved = to_device(batch._replace(features=FrameFeatures(tokens, (2, 2))), "cpu")
    assert moved.views[0].dtype == torch.float32
    assert torch.equal((moved.views[0] * 255).round().to(torch.uint8), batch.views[0])
    assert moved.labels is not None
    assert moved.labels.dtype == torch.uint8
    assert moved.features is not None
    assert torch.equal(moved.features.tokens, tokens)
    assert torch.equal(to_device(moved, "cpu").views[0], moved.views[0])
    assert np.array_equal(moved.frames.numpy(), batch.frames.numpy())


@pytest.mark.parametrize(
    ("length", "first", "stride"),
    [(13, {0}, 3), (16, {0, 1, 2, 3}, 3), (17, {0, 1, 2, 3, 4}, 3), (18, {0, 1}, 4),
     (20, {0, 1, 2, 3}, 4)],
)  # fmt: skip
def test_centred_starts_leave_a_margin(length: int, first: set[int], stride: int) -> None:
    """Four frames, four apart: the last four are never seen; short videos take three."""
    clips = TrainingClips(Counting([length]), 4, 4, starts="centred")
    seen = set()
    for epoch in range(60):
        frames = clips[SampleKey(epoch, 0, epoch)].frames.tolist()
        assert {b - a for a, b in itertools.pairwise(frames)} == {stride}
        seen.add(frames[0])
    assert seen == first


def test_centred_starts_need_thirteen_frames() -> None:
    with pytest.raises(DataError, match="none of 1 videos has the 13 frames"):
        TrainingClips(Counting([12]), 4, 4, starts="centred")
