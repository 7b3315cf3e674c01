"""J&F of soft proposals matched in every frame, beside one assignment per video."""

import zlib

import numpy as np
import pytest
import torch

from slotreel.metrics.frame_matched_jf import FrameMatchedJF, assign_per_frame, cut_masks
from slotreel.metrics.jf import assign_proposals, stack_proposals
from slotreel.metrics.pairs import proposal_scores
from slotreel.types import Proposals, VideoInfo

VIDEO = VideoInfo("clip", 5, (24, 40))
NAME = "{}_per_frame_matching"


def run(truth, proposals, **arguments):
    """Row and objects of one video."""
    metric = FrameMatchedJF(**arguments)
    metric.start(VIDEO)
    for t, (true, soft) in enumerate(zip(truth, proposals, strict=True)):
        metric.update(soft, true, t)
    return metric.finish(), metric.objects()


def sure(masks):
    masks = torch.as_tensor(np.array(masks), dtype=torch.float32)
    return Proposals(masks, torch.ones(len(masks)))


def random_proposals(t):
    """The numbers that the worked example names: 5 or 6 soft masks on a 6x10 grid."""
    state = np.random.RandomState(zlib.crc32(f"um{t}".encode()))
    return sure(state.random_sample((6 - t % 2, 6, 10)))


def moving_objects():
    truth = np.zeros((5, 24, 40), np.uint8)
    for t in range(5):
        truth[t, 2:12, 3 + t : 15 + t] = 1
        truth[t, 14:22, 20 : 36 - 2 * t] = 2
    return truth


def test_random_proposals_against_the_published_program():
    """The reference values were taken with J alone as the score that is matched."""
    truth, proposals = moving_objects(), [random_proposals(t) for t in range(5)]
    tables = [
        proposal_scores(true, cut_masks(soft.masks, (24, 40), 0.3), 2)
        for true, soft in zip(truth, proposals, strict=True)
    ]
    j, f = (stack_proposals([table[side] for table in tables]) for side in (0, 1))
    per_frame = np.take_along_axis(j, assign_per_frame(j)[None], 0)
    assert per_frame.mean() == pytest.approx(0.133418, abs=1e-6)
    assert j[assign_proposals(j, j)].mean() == pytest.approx(0.107318, abs=1e-6)

    row, objects = run(truth, proposals)
    matched = assign_per_frame(j + f)[None]
    want = [np.take_along_axis(x, matched, 0).mean() for x in (j, f)]
    got = [row[NAME.format(name)] for name in "jf"]
    assert got == [(pytest.approx(2 * x), 2) for x in want]
    assert [sum(o[NAME.format(name)] for o in objects.values()) for name in "jf"] == [
        pytest.approx(total) for total, _ in got
    ]
    sequence = (j + f)[assign_proposals(j, f)].mean()
    assert sequence < sum(want)


def test_names_keep_away_from_the_official_measure():
    row, _ = run(moving_objects(), [random_proposals(t) for t in range(5)])
    assert set(row) == {NAME.format(name) for name in ("j", "f", "jf")}
    j, f, jf = (row[NAME.format(name)][0] for name in ("j", "f", "jf"))
    assert jf == pytest.approx((j + f) / 2)


def test_identity_over_time_costs_nothing():
    truth = moving_objects()
    masks = [np.stack([true == 1 + t % 2, true == 2 - t % 2]) for t, true in enumerate(truth)]
    row, objects = run(truth, [sure(m) for m in masks])
    assert set(row.values()) == {(2.0, 2.0)}
    assert objects["2"] == {NAME.format(name): 1.0 for name in ("j", "f", "jf")}


def test_an_absent_object_wants_an_empty_proposal():
    truth = moving_objects()
    truth[3][truth[3] == 2] = 0
    both = [np.stack([true == 1, true == 2]) for true in moving_objects()]
    only = [*both[:3], both[3][:1], both[4]]  # frame 3 is padded, and the padding matches
    assert run(truth, [sure(m) for m in only])[1]["2"]["j_per_frame_matching"] == 1
    assert run(truth, [sure(m) for m in both])[1]["2"]["j_per_frame_matching"] == 0.8
    third = [np.concatenate([m, m[:1]]) for m in both]
    padded = [
        *third[:3],
        both[3],
        third[4],
    ]  # as many proposals as objects, yet one fewer than most
    assert run(truth, [sure(m) for m in padded])[1]["2"]["j_per_frame_matching"] == 1


def test_unsure_proposals_are_dropped():
    truth = moving_objects()
    masks = [torch.as_tensor(np.stack([t == 1, t == 2])).float() for t in truth]
    soft = [Proposals(m, torch.tensor([0.5, 0.49])) for m in masks]
    _, objects = run(truth, soft)
    assert (objects["1"][NAME.format("j")], objects["2"][NAME.format("j")]) == (1, 0)
    assert run(truth, soft, min_score=0.4)[0][NAME.format("j")] == (2, 2)
    none = [Proposals(m, torch.zeros(2)) for m in masks]
    assert run(truth, none)[0][NAME.format("jf")] == (0, 2)


def test_masks_are_scaled_then_cut():
    soft = torch.tensor([[[2.0, 2.29, 2.31, 3.0]], [[0.7, 0.7, 0.7, 0.7]], [[0.0, 0.2, 0.9, 0.1]]])
    hard = cut_masks(soft, (2, 8), 0.3)
    assert hard.shape == (3, 2, 8)
    assert hard[:, 1].int().tolist() == [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0] * 8,  # one value only
        [0, 0, 0, 0, 1, 1, 0, 0],
    ]
    assert cut_masks(soft[:0], (2, 8), 0.3).shape == (0, 2, 8)


def test_void_and_videos_without_objects():
    truth = moving_objects()
    truth[1:] = 255
    row, _ = run(truth, [sure(np.stack([t == 1, t == 2])) for t in moving_objects()])
    assert row[NAME.format("j")] == (2, 2)
    empty = np.zeros_like(truth)
    row, objects = run(empty, [random_proposals(t) for t in range(5)])
    assert (set(row.values()), objects) == ({(0.0, 0.0)}, {})
    assert set(run([], [])[0].values()) == {(0.0, 0.0)}


def test_errors_say_what_to_do():
    truth, soft = moving_objects(), random_proposals(0)
    with pytest.raises(
        ValueError, match=r"video 'clip', frame 0: .* 5 proposals.*got 6; raise min"
    ):
        run(truth[:1], [soft], max_proposals=5)
    with pytest.raises(ValueError, match=r"frame 0: .*one score"):
        run(truth[:1], [Proposals(soft.masks, soft.scores[1:])])
    with pytest.raises(ValueError, match=r"try threshold=0\.3"):
        FrameMatchedJF(threshold=1)
    with pytest.raises(ValueError, match="try max_proposals=300"):
        FrameMatchedJF(max_proposals=0)
    with pytest.raises(ValueError, match="bound_th"):
        FrameMatchedJF(bound_th=0)
    with pytest.raises(TypeError, match="uint8"):
        run(truth[:1].astype(np.int64), [soft])
    with pytest.raises(RuntimeError, match="start"):
        FrameMatchedJF().update(soft, truth[0], 0)
    with pytest.raises(RuntimeError, match="start"):
        FrameMatchedJF().finish()
