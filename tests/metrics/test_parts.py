import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.functional import contingency
from slotreel.metrics.parts import PartIoU, histogram_scores
from slotreel.types import VideoInfo


def labels(rows: str) -> np.ndarray:
    return np.array([list(row) for row in rows.split("/")]).astype(np.uint8)


TRUTH, PREDICTION = labels("0011/0011/2222"), labels("0011/0012/2222")
RELABELLED = labels("5011/0011/2222")


def run(*pairs, **arguments):
    """Row of a video of (truth, prediction)."""
    metric = PartIoU(**arguments)
    metric.start(VideoInfo("clip", len(pairs), (3, 4)))
    for t, (g, p) in enumerate(pairs):
        metric.update(p, g, t)
    return metric.finish()


def score(rows, name):
    """Plain mean of the parts, each a quotient of sums over videos."""
    parts = [key for key in rows[0] if key == name or key.startswith(f"{name}/")]
    sums = [[sum(row[key][i] for row in rows) for i in (0, 1)] for key in parts]
    return np.mean([total / count for total, count in sums if count])


@pytest.mark.parametrize(
    ("truth", "accuracy", "mean_accuracy", "mean_iou", "weighted"),
    [(TRUTH, 0.916667, 0.916667, 0.85, 0.85), (RELABELLED, 0.833333, 0.6875, 0.575, 0.704167)],
)
def test_worked_by_hand(truth, accuracy, mean_accuracy, mean_iou, weighted):
    row = run((truth, PREDICTION))
    histogram = contingency(truth[None], PREDICTION[None], 20, 20)[0]
    assert len(row) == 41
    assert score([row], "accuracy") == pytest.approx(accuracy, abs=1e-6)
    assert score([row], "mean_accuracy") == pytest.approx(mean_accuracy, abs=1e-6)
    assert score([row], "mean_iou") == pytest.approx(mean_iou, abs=1e-6)
    expected = (accuracy, mean_accuracy, mean_iou, weighted)
    assert histogram_scores(histogram) == pytest.approx(expected, abs=1e-6)


def test_rows_hold_pixel_counts():
    row = run((TRUTH, PREDICTION), (TRUTH, TRUTH))
    assert row["mean_iou/class01"] == (7, 8)
    assert row["mean_iou/class02"] == (8, 9)
    assert row["mean_accuracy/class01"] == (7, 8)
    assert row["accuracy"] == (23, 24)
    assert row["mean_iou/class19"] == (0, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_set_has_one_histogram(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 6, (2, 6, 4, 5), dtype=np.uint8)
    pairs = list(zip(truth, prediction, strict=True))
    rows = [run(*pairs[:2]), run(*pairs[2:])]
    whole = histogram_scores(contingency(truth, prediction, 20, 20).sum(0))
    assert score(rows, "accuracy") == pytest.approx(whole.accuracy)
    assert score(rows, "mean_accuracy") == pytest.approx(whole.mean_accuracy)
    assert score(rows, "mean_iou") == pytest.approx(whole.mean_iou)


def test_truth_that_is_no_class_counts_nowhere():
    truth = TRUTH.copy()
    truth[1, 3], truth[2] = 255, 20
    row = run((truth, PREDICTION))
    assert row["accuracy"] == (7, 7)
    assert row["mean_iou/class02"] == (0, 0)
    void = np.full_like(TRUTH, 255)
    assert set(run((void, PREDICTION)).values()) == {(0, 0)}
    assert set(run().values()) == {(0, 0)}


def test_histograms_without_pixels_have_no_score():
    assert all(map(math.isnan, histogram_scores(np.zeros((3, 3), int))))


def test_frames_may_live_in_torch():
    pair = TRUTH, PREDICTION
    assert run(tuple(map(torch.from_numpy, pair))) == run(pair)


def test_errors_say_what_to_do():
    wrong = PREDICTION.copy()
    wrong[0, 0] = 20
    with pytest.raises(ValueError, match=r"video 'clip', frame 0: .*0\.\.19, got 20; .*classes=21"):
        run((TRUTH, wrong))
    assert run((TRUTH, wrong), num_classes=21)["accuracy"] == (10, 12)
    with pytest.raises(ValueError, match="VIP has 20"):
        PartIoU(num_classes=0)
    with pytest.raises(RuntimeError, match="start"):
        PartIoU().update(TRUTH, TRUTH, 0)
    with pytest.raises(ValueError, match=r"frame 0: .*one size"):
        run((TRUTH, TRUTH[1:]))
    with pytest.raises(TypeError, match=r"frame 0: .*astype"):
        run((TRUTH.astype(np.int64), TRUTH))
