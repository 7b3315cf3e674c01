import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.boundary import region_similarity
from slotreel.metrics.single_object import SingleObject
from slotreel.types import VideoInfo


def labels(*frames: str) -> np.ndarray:
    return np.array([[list(row) for row in f.split("/")] for f in frames]).astype(np.uint8)


def run(truth, prediction, **arguments):
    metric = SingleObject(**arguments)
    metric.start(VideoInfo("clip", len(truth), truth.shape[1:]))
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    return metric.finish()


TRUTH = labels("0110/0330", "0110/0330", "0110/0330", "0000/0000")
PREDICTION = labels("1222/1222", "1222/1222", "0220/0110", "0000/0000")


def test_worked_by_hand():
    """Per frame: all labels 4/8, 4/8, 1, 1; label 2: 4/6, 4/6, 1/2, 1; label 1: 0, 0, 1/2, 1."""
    row = run(TRUTH, PREDICTION, vote=True)
    assert row["j_fg"] == (pytest.approx(3 / 4), 1)
    assert row["j_matched"] == (pytest.approx((4 / 6 + 4 / 6 + 1 / 2 + 1) / 4), 1)
    assert row["j_vote"] == (pytest.approx((4 / 6 + 4 / 6 + 1 + 1) / 4), 1)
    assert set(run(TRUTH, PREDICTION)) == {"j_fg", "j_matched"}


def test_average_over_videos_or_over_frames():
    long, short = run(TRUTH, PREDICTION), run(TRUTH[:1], PREDICTION[:1])
    assert [long["j_fg"], short["j_fg"]] == [(0.75, 1), (0.5, 1)]
    long, short = (run(TRUTH[:n], PREDICTION[:n], average="frame") for n in (4, 1))
    assert [long["j_fg"], short["j_fg"]] == [(3, 4), (0.5, 1)]


def test_first_and_last_frame_may_be_left_out():
    row = run(TRUTH, PREDICTION, score_ends=False, average="frame", vote=True)
    assert row["j_fg"] == (1.5, 2)
    assert row["j_matched"] == (pytest.approx(4 / 6 + 1 / 2), 2)
    assert row["j_vote"] == (pytest.approx(4 / 6 + 1), 2)
    assert run(TRUTH[:3], PREDICTION[:3], score_ends=False)["j_fg"] == (0.5, 1)
    with pytest.raises(ValueError, match=r"at least 3, got 2; .*score_ends=true"):
        run(TRUTH[:2], PREDICTION[:2], score_ends=False)


def test_a_choice_per_video_is_no_choice_per_frame():
    truth = labels("0110", "0110")
    row = run(truth, labels("0120", "0210"), vote=True)
    assert row["j_matched"] == (0.5, 1)
    assert row["j_fg"] == row["j_vote"] == (1, 1)


def test_label_0_is_never_foreground():
    truth = labels("0111")
    row = run(truth, labels("1000"), vote=True)
    assert set(row.values()) == {(0, 1)}


def test_a_label_that_comes_late_was_empty_before():
    truth = labels("0000", "0110")
    assert run(truth, labels("0000", "0550"))["j_matched"] == (1, 1)
    assert run(truth, labels("1000", "1550"))["j_matched"] == (1, 1)
    assert run(truth, labels("5000", "1550"))["j_matched"] == (0.5, 1)


def test_only_labels_that_occur_can_be_chosen():
    truth = labels("0110", "0000", "0000")
    assert run(truth, labels("2222", "2222", "2222"))["j_matched"] == (pytest.approx(1 / 6), 1)
    assert run(truth, np.zeros_like(truth))["j_matched"] == (pytest.approx(2 / 3), 1)


def test_void_counts_nowhere():
    truth, prediction = labels("0110"), labels("0111")
    truth[0, 0, 3] = 255
    assert set(run(truth, prediction, vote=True).values()) == {(1, 1)}
    void = np.full_like(truth, 255)
    assert set(run(void, prediction, vote=True).values()) == {(1, 1)}  # both masks are empty


def test_a_video_without_annotated_frame_counts_nothing():
    for average in ("sequence", "frame"):
        for ends in (True, False):
            row = run(TRUTH[:0], TRUTH[:0], average=average, score_ends=ends)
            assert set(row.values()) == {(0, 0)}


def test_one_pixel_object_and_torch():
    truth = labels("0000/0100")
    assert set(run(truth, truth, vote=True).values()) == {(1, 1)}
    as_torch = [torch.from_numpy(x) for x in (TRUTH, PREDICTION)]
    assert run(*as_torch, vote=True) == run(TRUTH, PREDICTION, vote=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_against_masks_one_by_one(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 0, 1, 2, 255], np.uint8), (4, 3, 5))
    prediction = rng.integers(0, 4, truth.shape, dtype=np.uint8)
    truth[0] = rng.choice(truth[0].ravel())
    fg, void = (truth > 0) & (truth < 255), truth == 255
    row = run(truth, prediction, vote=True)
    assert row["j_fg"][0] == pytest.approx(region_similarity(fg, prediction > 0, void).mean())
    alone = [region_similarity(fg, prediction == k, void).mean() for k in (1, 2, 3)]
    assert row["j_matched"][0] == pytest.approx(max(alone))
    voted = np.zeros_like(fg)
    for k in (1, 2, 3):
        mask = prediction == k
        inside, outside = (region_similarity(side, mask, void) for side in (fg, ~fg))
        voted |= mask & (inside > outside)[:, None, None]
    assert row["j_vote"][0] == pytest.approx(region_similarity(fg, voted, void).mean())


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="choose sequence or frame"):
        SingleObject(average="video")
    with pytest.raises(RuntimeError, match="start"):
        SingleObject().update(TRUTH[0], TRUTH[0], 0)
    with pytest.raises(RuntimeError, match="start"):
        SingleObject().finish()
    with pytest.raises(ValueError, match=r"video 'clip', frame 0: .*one size"):
        run(TRUTH, TRUTH[:, 1:])
    with pytest.raises(TypeError, match=r"frame 0: .*astype"):
        run(TRUTH, TRUTH.astype(int))
