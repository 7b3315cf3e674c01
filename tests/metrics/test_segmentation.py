import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.segmentation import Segmentation
from tests.metrics.clips import NAMES, VIDEO, labels, mean, run

TRUTH = labels(*["0011/0011/2222"] * 2)


def test_frames_without_objects_are_left_out_unless_asked_for():
    truth = labels("0110/0110", "0000/0000")
    prediction = labels("0120/0120", "0011/0011")
    assert run(truth, prediction)["fg_ari_frame"] == (0, 1)
    assert run(truth, prediction, empty_frame="one")["fg_ari_frame"] == (1, 2)
    unlabelled = run(truth, prediction, background="none")
    assert unlabelled["fg_ari_frame"] == unlabelled["ari_frame"] == (0, 1)
    assert run(truth, prediction)["ari_frame"][1] == 2


def test_videos_without_objects_follow_the_same_rule():
    empty = np.zeros((2, 3, 4), np.uint8)
    assert run(empty, empty)["fg_ari_video"] == (0, 0)
    assert run(empty, empty)["ari_video"] == (1, 1)
    assert run(empty, empty, empty_frame="one")["fg_ari_video"] == (1, 1)
    assert set(run(empty, empty, background="none").values()) == {(0, 0)}
    void = np.full((2, 3, 4), 255, np.uint8)
    for arguments in ({}, {"empty_frame": "one"}, {"background": "none"}):
        assert set(run(void, empty, **arguments).values()) == {(0, 0)}


def test_a_frame_of_void_is_no_sample():
    truth = labels("0110/0220", "0110/0220")
    truth[1] = 255
    for arguments in ({"empty_frame": "one"}, {"iou_background": "in"}, {"background": "none"}):
        row = run(truth, truth, **arguments)
        assert set(row.values()) == {(1, 1)}


def test_object_in_one_frame_only_predicted_perfectly_scores_one():
    truth = labels("0110/0220", "0000/0000")
    row = run(truth, truth + np.uint8(1), empty_frame="one")
    assert {name: mean([row], name) for name in NAMES} == dict.fromkeys(NAMES, 1.0)


def test_switching_identities_costs_the_video_only():
    truth = labels("0120/0120", "0120/0120")
    row = run(truth, labels("0120/0120", "0210/0210"))
    assert mean([row], "fg_ari_frame") == 1
    assert mean([row], "mbo_frame") == 1
    assert mean([row], "fg_ari_video") < 0.01
    assert mean([row], "miou_video") < 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["exists", "none"]))
def test_slot_names_and_ignored_pixels_do_not_matter(seed, background):
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), (3, 5, 6))
    prediction = rng.integers(1, 6, truth.shape, dtype=np.uint8)
    names = rng.permutation(255).astype(np.uint8)
    other = np.where(truth == 255, rng.integers(0, 255, truth.shape), names[prediction])
    first = run(truth, prediction, background=background)
    second = run(truth, other.astype(np.uint8), background=background)
    for name in NAMES:
        np.testing.assert_allclose(first[name], second[name], atol=1e-12)


def test_one_metric_serves_many_videos():
    metric = Segmentation()
    rows = []
    for _ in range(2):
        metric.start(VIDEO)
        metric.update(TRUTH[0], TRUTH[0], 0)
        rows.append(metric.finish())
    assert rows[0] == rows[1]
    assert rows[0]["fg_ari_frame"] == (1, 1)


def test_memory_does_not_grow_with_the_video():
    metric = Segmentation()
    metric.start(VIDEO)

    def size():
        return sum(x.nbytes for x in vars(metric).values() if isinstance(x, np.ndarray)), {
            name: len(x) for name, x in vars(metric).items() if isinstance(x, (list, dict))
        }

    metric.update(TRUTH[0], TRUTH[0], 0)
    before = size()
    for t in range(1, 300):
        metric.update(TRUTH[0], TRUTH[0], t)
    assert size() == before
    assert metric.finish()["ari_frame"] == (300, 300)


def test_errors_say_what_to_do():
    metric = Segmentation()
    with pytest.raises(RuntimeError, match="start"):
        metric.update(TRUTH[0], TRUTH[0], 0)
    with pytest.raises(RuntimeError, match="start"):
        metric.finish()
    metric.start(VIDEO)
    with pytest.raises(ValueError, match=r"video 'clip', frame 7: .*resize the soft masks"):
        metric.update(TRUTH[0, :2], TRUTH[0], 7)
    with pytest.raises(TypeError, match="astype"):
        metric.update(TRUTH[0].astype(int), TRUTH[0], 7)
    with pytest.raises(ValueError, match="choose exists or none"):
        Segmentation(background="maybe")
    with pytest.raises(ValueError, match="choose skip or one"):
        Segmentation(empty_frame="two")
    with pytest.raises(ValueError, match="try empty_frame=skip"):
        Segmentation(background="none", empty_frame="one")
    with pytest.raises(ValueError, match="choose out or in"):
        Segmentation(iou_background="both")
    with pytest.raises(ValueError, match="try iou_background=out"):
        Segmentation(background="none", iou_background="in")


def test_frames_may_live_in_torch():
    prediction = labels("0011/0012/2222", "0022/0022/1111")
    as_torch = [torch.from_numpy(x) for x in (TRUTH, prediction)]
    assert run(*as_torch) == run(TRUTH, prediction)
