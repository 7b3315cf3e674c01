"""Tracks: slots follow their masks and contents over time, and only the largest stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.inference.tracks import Tracks, cosine, overlap
from slotreel.interfaces import Objective, Stream
from slotreel.streaming import hard_labels
from slotreel.types import Batch, LossOutput, MaskSource, Prediction, Progress, VideoInfo

VIDEO = VideoInfo("a", 4, (4, 6))


class Said(Objective, Stream):
    """Says what it was given, one prediction per frame; the last ``late`` only at the end."""

    def __init__(self, predictions: Sequence[Prediction], late: int = 0) -> None:
        super().__init__()
        self.predictions, self.late = list(predictions), late

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        raise AssertionError

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        return self

    def push(self, frames: Tensor, hints: object = None) -> list[Prediction]:
        return self.predictions[: len(self.predictions) - self.late]

    def finish(self) -> list[Prediction]:
        return self.predictions[len(self.predictions) - self.late :]


def through(
    predictions: Sequence[Prediction], late: int = 0, **settings: object
) -> list[Prediction]:
    stream = Tracks(Said(predictions, late), **settings).stream(VIDEO)
    return [*stream.push(torch.zeros(1, 3, 4, 6)), *stream.finish()]


def moving(num_slots: int = 4, num_frames: int = 5, seed: int = 0) -> list[Prediction]:
    """Each slot keeps its own content and its own band of cells."""
    draw = torch.Generator().manual_seed(seed)
    slots = torch.randn(num_slots, 8, generator=draw)
    masks = torch.eye(num_slots).repeat_interleave(3, dim=1).reshape(num_slots, num_slots, 3)
    sure = torch.linspace(0.2, 0.9, num_slots)
    return [
        Prediction(t, masks=0.1 + 0.8 * masks, slots=slots + 0.01 * t, scores=sure)
        for t in range(num_frames)
    ]


def shuffled(predictions: list[Prediction], orders: list[list[int]]) -> list[Prediction]:
    return [
        p._replace(masks=p.masks[o], slots=p.slots[o], scores=p.scores[o])
        for p, o in zip(predictions, orders, strict=True)
    ]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
@settings(deadline=None)
@given(orders=st.lists(st.permutations(range(4)), min_size=5, max_size=5))
def test_any_order_of_slots_is_undone(
    weights: tuple[float, float], orders: list[list[int]]
) -> None:
    wanted = moving()
    first = orders[0]
    found = through(shuffled(wanted, orders), slot_weight=weights[0], mask_weight=weights[1])
    for p, q in zip(found, wanted, strict=True):
        assert p.frame == q.frame
        for name in ("masks", "slots", "scores"):
            assert torch.equal(getattr(p, name), getattr(q, name)[first])


def test_content_and_place_can_disagree() -> None:
    """Two slots swap their cells: by content they swap back, by place they stay."""
    first = Prediction(0, masks=torch.eye(2).reshape(2, 1, 2), slots=torch.eye(2))
    then = first._replace(frame=1, slots=torch.eye(2)[[1, 0]])
    by_place = through([first, then], slot_weight=0.0, mask_weight=1.0)[1]
    by_content = through([first, then], slot_weight=1.0, mask_weight=0.0)[1]
    assert torch.equal(by_place.masks, then.masks)
    assert torch.equal(by_content.masks, then.masks[[1, 0]])
    assert torch.equal(by_content.slots, first.slots)


def test_without_weights_the_order_is_the_models() -> None:
    said = shuffled(
        moving(), [[2, 0, 1, 3], [0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [0, 1, 2, 3]]
    )
    found = through(said, slot_weight=0.0, mask_weight=0.0)
    assert all(p is q for p, q in zip(found, said, strict=True))


def test_masks_link_where_there_are_no_slots() -> None:
    said = [p._replace(slots=None, scores=None) for p in moving()]
    mixed = [p._replace(masks=p.masks.flip(0)) if p.frame % 2 else p for p in said]
    found = through(mixed)
    assert all(torch.equal(p.masks, said[0].masks) for p in found)


@pytest.mark.parametrize("late", [0, 2, 5])
def test_the_largest_tracks_stay_and_the_others_are_background(late: int) -> None:
    """Cells won over the video: slot 0 six, slot 1 one, slot 2 eight, slot 3 none."""
    winners = [[[0, 0, 2, 2]], [[0, 1, 2, 2]], [[0, 0, 2, 2]], [[2, 2, 0, 0]]]
    said = [
        Prediction(
            t,
            masks=torch.nn.functional.one_hot(torch.tensor(w), 4).permute(2, 0, 1).float(),
            slots=torch.eye(4),
            scores=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        )
        for t, w in enumerate(winners)
    ]
    found = through(said, late, slot_weight=0.0, mask_weight=0.0, max_tracks=2)
    assert [p.frame for p in found] == [0, 1, 2, 3]
    maps = [hard_labels(p, (1, 4)).tolist() for p in found]
    assert maps == [[[1, 1, 2, 2]], [[1, 0, 2, 2]], [[1, 1, 2, 2]], [[2, 2, 1, 1]]]
    assert torch.equal(found[0].slots, torch.eye(4)[[0, 2]])
    assert torch.equal(found[0].scores, torch.tensor([0.0, 0.1, 0.3]))


def test_a_limit_that_is_wide_enough_delays_nothing() -> None:
    stream = Tracks(Said(moving()), max_tracks=4).stream(VIDEO)
    assert len(stream.push(torch.zeros(1, 3, 4, 6))) == 5
    assert list(stream.finish()) == []


def test_what_has_an_identity_passes_unchanged() -> None:
    labels = Prediction(0, labels=np.ones((4, 6), np.uint8))
    propagated = moving()[0]._replace(frame=1, first_label=0)
    assert through([labels, propagated], max_tracks=1) == [labels, propagated]


def test_wrong_numbers_are_refused() -> None:
    for wrong in ({"slot_weight": -1.0}, {"mask_weight": -0.1}, {"max_tracks": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Tracks(Said([]), **wrong)


def test_overlap_is_the_iou_of_hard_masks() -> None:
    a = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).float().reshape(3, 2, 2)
    b = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1]]).float().reshape(2, 2, 2)
    wanted = torch.tensor([[1 / 2, 1 / 4], [0, 2 / 3], [0, 0]])
    assert torch.allclose(overlap(a, b), wanted)
    assert torch.allclose(
        cosine(torch.eye(2), torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6], [0.8]])
    )
