import numpy as np
import pytest
import torch

from slotreel.metrics.keypoints import PCK
from slotreel.types import VideoInfo

VIDEO = VideoInfo("clip", 3, (240, 320))
JOINTS = np.stack([20.0 + 10 * np.arange(15), 30.0 + 40 * (np.arange(15) % 3)], axis=1)


def run(truth, prediction, **arguments):
    metric = PCK(**arguments)
    metric.start(VIDEO)
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    return metric.finish()


def score(row, name):
    """The plain mean of the parts that have a count."""
    parts = [row[key] for key in row if key.startswith(f"{name}/")]
    return np.mean([total / count for total, count in parts if count])


def scene():
    return np.stack([JOINTS] * 3), np.stack([JOINTS] * 3)


def worked():
    truth, prediction = scene()
    prediction[1:, 3, 0] += 15
    prediction[1, 5, 1] += 40
    prediction[2, 7, 0] += 60
    prediction[1, 10] = -1
    return truth, prediction


def test_worked_by_hand():
    row = run(*worked())
    expected = {0.1: 86.666667, 0.2: 93.333333, 0.3: 93.333333, 0.4: 93.333333, 0.5: 96.666667}
    assert len(row) == 15 * len(expected)
    for threshold, percent in expected.items():
        assert 100 * score(row, f"pck_{threshold}") == pytest.approx(percent, abs=1e-6)
    assert row["pck_0.1/joint10"] == (1, 1)  # called unseen once
    assert row["pck_0.1/joint03"] == (0, 2)
    assert row["pck_0.5/joint07"] == (1, 2)


def test_distance_is_measured_in_sizes_of_the_person():
    truth, prediction = scene()
    prediction[1:, 0, 0] += 0.2 * 96.747093
    row = run(truth, prediction, thresholds=[0.199999, 0.200001])
    assert [row[name][0] for name in row if name.endswith("joint00")] == [0, 2]


def test_size_comes_from_joints_that_take_part():
    truth, prediction = scene()
    prediction[:, 4:] = -1  # what is left spans 30x80 pixels
    prediction[1:, 0, 0] += 0.2 * 0.6 * np.hypot(30, 80) * 1.001
    assert run(truth, prediction, thresholds=[0.2])["pck_0.2/joint00"] == (0, 2)
    assert run(truth, prediction, thresholds=[0.201])["pck_0.201/joint00"] == (2, 2)


def test_the_first_frame_was_given():
    truth, prediction = scene()
    prediction[0] += 100
    assert score(run(truth, prediction), "pck_0.1") == 1
    assert set(run(truth[:1], prediction[:1]).values()) == {(0, 0)}
    assert run(truth[:0], prediction[:0]) == {}


@pytest.mark.filterwarnings("error")
def test_joints_without_truth_or_prediction_leave_the_sum():
    truth, prediction = scene()
    truth[1, 2] = np.nan
    row = run(truth, prediction)
    assert row["pck_0.1/joint02"] == (1, 1)
    nothing = run(truth, np.full_like(prediction, -1))
    assert set(nothing.values()) == {(0, 0)}
    unseen = prediction.copy()
    unseen[:, 6] = -1
    row = run(truth, unseen)
    assert row["pck_0.1/joint06"] == (0, 0)
    assert score(row, "pck_0.1") == 1


@pytest.mark.filterwarnings("error")
def test_a_lone_joint_has_no_size():
    truth, prediction = scene()
    truth[1:, 1:] = np.nan
    assert run(truth, prediction)["pck_0.1/joint00"] == (2, 2)
    prediction[2, 0] += 1
    assert run(truth, prediction)["pck_0.1/joint00"] == (1, 2)


def test_points_may_live_in_torch():
    pair = worked()
    assert run(*map(torch.from_numpy, pair)) == run(*pair)


def test_it_reads_points():
    assert PCK.reads == "points"


def test_errors_say_what_to_do():
    truth, prediction = scene()
    for wrong in (prediction[:, :4], prediction[..., :1]):
        with pytest.raises(ValueError, match=r"video 'clip', frame 0: .*x = -1"):
            run(truth, wrong)
    metric = PCK()
    with pytest.raises(RuntimeError, match="start"):
        metric.update(JOINTS, JOINTS, 0)
    metric.start(VIDEO)
    metric.update(JOINTS, JOINTS, 0)
    with pytest.raises(ValueError, match=r"frame 1: expected prediction and truth \(15, 2\)"):
        metric.update(JOINTS[:3], JOINTS[:3], 1)
    for thresholds in ([], [0.1, 0]):
        with pytest.raises(ValueError, match="try thresholds="):
            PCK(thresholds=thresholds)
