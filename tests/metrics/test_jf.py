import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.jf import JF, assign_proposals
from slotreel.metrics.pairs import pair_scores
from slotreel.types import VideoInfo

VIDEO = VideoInfo("clip", 5, (24, 32))
SIZE = (24, 32)
ONE, TWO = (slice(4, 12), slice(4, 14)), (slice(10, 20), slice(16, 28))


def scene(one=1, two=2, frames=5):
    maps = np.zeros((frames, *SIZE), np.uint8)
    maps[(slice(None), *ONE)] = one
    maps[(slice(None), *TWO)] = two
    return maps


def run(truth, prediction, **arguments):
    return run_both(truth, prediction, **arguments)[0]


def run_both(truth, prediction, **arguments):
    """Row and objects of one video."""
    metric = JF(**arguments)
    metric.start(VIDEO)
    assert metric.objects() == {}
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    return metric.finish(), metric.objects()


def per_object(truth, prediction):
    """J and F means of the assigned pairs and the assignment, ids from 1, sorted by proposal."""
    n = int(np.where(truth[0] == 255, 0, truth[0]).max())
    p = max(n, int(prediction.max()))
    tables = [pair_scores(g, q, n, p) for g, q in zip(truth, prediction, strict=True)]
    j, f = (np.stack([t[side][1:] for t in tables], axis=-1) for side in (0, 1))
    rows, columns = assign_proposals(j, f)
    pairs = list(zip((rows + 1).tolist(), (columns + 1).tolist(), strict=True))
    return j[rows, columns].mean(-1), f[rows, columns].mean(-1), pairs


def extra_proposals():
    prediction = scene()
    prediction[:, 4:8, 4:14] = 3
    prediction[:, 20:24, :4] = 4
    prediction[:, :3, 28:] = 5
    return prediction


def grid_of_twenty():
    prediction = np.zeros((5, *SIZE), np.uint8)
    cells = np.arange(1, 21, dtype=np.uint8).reshape(4, 5)
    prediction[:, :24, :30] = np.kron(cells, np.ones((6, 6), np.uint8))
    return prediction


def void_spill():
    truth, prediction = scene(), scene()
    truth[:, 4:12, 14:16], prediction[:, 4:12, 14:16] = 255, 1
    return truth, prediction


def void_later():
    truth = scene()
    truth[1:] = 255
    return truth


def two_leaves():
    truth = scene()
    truth[2:][truth[2:] == 2] = 0
    return truth


SWITCHED = np.concatenate([scene()[:3], scene(2, 1)[3:]])
CASES = {
    "ids swapped": (scene(), scene(2, 1), (1, 1), (1, 1), [(1, 2), (2, 1)]),
    "no proposal": (scene(), scene(0, 0), (0, 0), (0, 0), None),
    "one proposal = object 2": (scene(), scene(0, 1), (1, 0), (1, 0), [(1, 2), (2, 1)]),
    "ids 9 and 7": (scene(), scene(9, 7), (1, 1), (1, 1), [(7, 2), (9, 1)]),
    "extra proposals": (scene(), extra_proposals(), (0.5, 1), (0.65625, 1), [(1, 1), (2, 2)]),
    "identities switch": (scene(), SWITCHED, (0.6, 0.6), (0.6, 0.6), [(1, 1), (2, 2)]),
    "void spill": (*void_spill(), (1, 1), (1, 1), [(1, 1), (2, 2)]),
    "all void after frame 0": (void_later(), scene(), (1, 1), (1, 1), [(1, 1), (2, 2)]),
    "object 2 leaves": (two_leaves(), scene(), (1, 0.4), (1, 0.4), [(1, 1), (2, 2)]),
    "twenty cells": (
        scene(),
        grid_of_twenty(),
        (0.45, 0.181818),
        (0.3, 0.176471),
        [(7, 1), (15, 2)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_worked_by_hand(case):
    truth, prediction, j, f, pairs = CASES[case]
    got_j, got_f, got_pairs = per_object(truth, prediction)
    np.testing.assert_allclose(got_j, j, atol=5e-7)
    np.testing.assert_allclose(got_f, f, atol=5e-7)
    assert pairs is None or got_pairs == pairs
    row, objects = run_both(truth, prediction)
    by_id = [n for _, n in got_pairs]
    for n, (score_j, score_f) in zip(by_id, zip(j, f, strict=True), strict=True):
        assert objects[str(n)]["j"] == pytest.approx(score_j, abs=1e-6)
        assert objects[str(n)]["f"] == pytest.approx(score_f, abs=1e-6)
    assert row["j"] == (pytest.approx(sum(j), abs=1e-6), 2)
    assert row["f"] == (pytest.approx(sum(f), abs=1e-6), 2)
    assert row["jf"][0] == pytest.approx((sum(j) + sum(f)) / 2, abs=1e-6)


@pytest.mark.parametrize("case", range(20))
def test_reference_sequences(golden, case):
    key = f"unsup_{case:03d}_"
    truth, prediction = golden[key + "gt"], golden[key + "pred"]
    num_proposals, num_objects = golden[key + "pair"].shape[1:3]
    frames = zip(truth, prediction, strict=True)
    tables = [pair_scores(g, p, num_objects, num_proposals) for g, p in frames]
    pairs = np.stack([np.stack([t[side][1:] for t in tables], axis=-1) for side in (0, 1)])
    np.testing.assert_allclose(pairs, golden[key + "pair"], atol=1e-15)
    np.testing.assert_array_equal(assign_proposals(*pairs), golden[key + "assign"])
    row, objects = run_both(truth, prediction)
    assert list(objects) == [str(n + 1) for n in range(num_objects)]
    for side, name in enumerate("jf"):
        for column, suffix in enumerate(("", "_recall", "_decay")):
            total = golden[key + "stat"][side, :, column].sum()
            assert row[name + suffix] == (pytest.approx(total, abs=1e-12), num_objects)
            for i, n in enumerate(golden[key + "assign"][1]):  # rows by proposal, named by object
                want = golden[key + "stat"][side, i, column]
                assert objects[str(n + 1)][name + suffix] == pytest.approx(want, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_names_of_proposals_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    truth = scene(frames=3)
    prediction = rng.integers(0, 6, (3, 6, 8), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    names = np.concatenate([[0], rng.permutation(np.arange(1, 21))[:5]]).astype(np.uint8)
    first, second = run(truth, prediction), run(truth, names[prediction])
    # tied assignments may differ in recall and decay, never in the mean of J and F
    np.testing.assert_allclose(first["jf"], second["jf"], atol=1e-12)


def test_a_proposal_that_comes_late_is_empty_before():
    truth, prediction = two_leaves(), scene()
    prediction[:2][prediction[:2] == 2] = 0  # id 2 exactly where object 2 is gone
    row = run(truth, prediction)
    assert row["j"] == (pytest.approx(1.0), 2)
    follows = run(truth, truth)
    assert follows["j"] == (2.0, 2)


def test_objects_come_from_the_first_frame():
    truth = scene()
    truth[1:, :3, :3] = 3
    assert run(truth, scene())["j"] == (2.0, 2)
    missing = scene(1, 3)
    assert run(missing, missing)["j"] == (3.0, 3)  # id 2 is an object that is empty throughout
    empty_first = scene()
    empty_first[0] = 0
    assert set(run(empty_first, scene()).values()) == {(0.0, 0.0)}
    assert set(run([], []).values()) == {(0.0, 0.0)}


def test_recall_and_decay_are_summed_over_objects():
    row = run(two_leaves(), scene())
    assert row["j_recall"] == (pytest.approx(1.4), 2)
    assert row["j_decay"] == (pytest.approx(1.0), 2)


def test_long_videos_have_a_decay():
    truth, prediction = scene(frames=300), scene(frames=300)
    prediction[150:][prediction[150:] == 2] = 0
    assert run(truth, prediction)["j_decay"] == (1.0, 2)


def test_merged_objects_are_one_foreground():
    truth = two_leaves()
    assert run(truth, truth, merge_objects=True)["jf"] == (1.0, 1)
    assert run(scene(), scene(5, 30), merge_objects=True)["jf"] == (1.0, 1)
    area_one, area_two = 80, 120
    row = run(truth, scene(), merge_objects=True)
    assert row["j"][0] == pytest.approx((2 + 3 * area_one / (area_one + area_two)) / 5)
    truth[0] = 0  # the object counts although the first frame lacks it
    assert run(truth, truth, merge_objects=True)["j"] == (1.0, 1)
    void, prediction = void_spill()
    assert run(void, prediction, merge_objects=True)["j"] == (1.0, 1)


def test_too_many_proposals_are_refused():
    with pytest.raises(ValueError, match=r"video 'clip', frame 0: .* 20 proposals, got id 21;.*"):
        run(scene(), scene(1, 21))
    assert run(scene(), scene(1, 21), max_proposals=21)["j"] == (2.0, 2)
    assert run(scene(), scene(200, 255), max_proposals=255)["j"] == (2.0, 2)
    with pytest.raises(ValueError, match="max_proposals=0"):
        JF(max_proposals=0)
    with pytest.raises(ValueError, match="bound_th"):
        JF(bound_th=-1)
    with pytest.raises(ValueError, match="choose sequence or identity"):
        JF(matching="frame")


def test_order_of_calls_and_sizes():
    metric = JF()
    with pytest.raises(RuntimeError, match="start"):
        metric.update(scene()[0], scene()[0], 0)
    with pytest.raises(RuntimeError, match="start"):
        metric.finish()
    metric.start(VIDEO)
    with pytest.raises(ValueError, match="one size"):
        metric.update(scene()[0, 1:], scene()[0], 0)
    with pytest.raises(TypeError, match=r"video 'clip', frame 0: .*astype"):
        metric.update(scene()[0].astype(np.int32), scene()[0], 0)


def test_memory_holds_pair_tables_not_masks():
    metric = JF()
    metric.start(VIDEO)
    for t, frame in enumerate(scene(frames=30)):
        metric.update(frame, frame, t)
    held = sum(side.nbytes for tables in metric._frames for side in tables)
    assert held == 30 * 2 * 3 * 2 * 8  # frames, J and F, two proposals and the empty one, objects
    assert all(side.base is None or side.base.nbytes < 200 for t in metric._frames for side in t)


@pytest.mark.parametrize("matching", ["sequence", "identity"])
def test_frames_may_live_in_torch(matching):
    truth, prediction = void_spill()
    as_torch = [torch.from_numpy(x) for x in (truth, prediction)]
    assert run(*as_torch, matching=matching) == run(truth, prediction, matching=matching)
