import numpy as np
import pytest
import torch

from slotreel.metrics.corloc import CorLoc, box_iou, tight_boxes
from slotreel.metrics.segmentation import Segmentation
from slotreel.types import VideoInfo

VIDEO = VideoInfo("clip", 1, (8, 8))


def box(rows, columns, label=1):
    labels = np.zeros((8, 8), np.uint8)
    labels[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = label
    return labels


def run(*pairs, metric=None, **arguments):
    """Row of a video of (truth, prediction)."""
    metric = metric or CorLoc(**arguments)
    metric.start(VIDEO)
    for t, (g, p) in enumerate(pairs):
        metric.update(p, g, t)
    return metric.finish()


TRUTH = box((1, 4), (1, 4))


@pytest.mark.parametrize(
    ("prediction", "corners", "pixels", "corloc", "mask_iou", "abo"),
    [
        (box((1, 4), (1, 3)), 0.666667, 0.75, 1, 0.75, 0.836538),
        (box((1, 4), (1, 2)), 0.333333, 0.5, 0, 0.5, 0.678571),
    ],
)
def test_worked_by_hand(prediction, corners, pixels, corloc, mask_iou, abo):
    boxes = tight_boxes(TRUTH), tight_boxes(prediction)
    assert box_iou(*boxes)[0, 0] == pytest.approx(corners, abs=1e-6)
    assert box_iou(*boxes, boxes="pixels")[0, 0] == pixels
    row = run((TRUTH, prediction))
    assert row["corloc"] == row["recall"] == (corloc, 1)
    assert row["corloc_mask"] == (float(mask_iou > 0.5), 1)
    assert run((TRUTH, prediction), mask_background="in")["corloc_mask"] == (1, 1)
    row = run((TRUTH, prediction), metric=Segmentation(iou_background="in"))
    assert row["mbo_frame"] == (pytest.approx(abo, abs=1e-6), 1)
    assert run((TRUTH, prediction), metric=Segmentation())["mbo_frame"] == (mask_iou, 1)


def test_exactly_half_is_a_miss():
    half = box((1, 4), (1, 2))
    assert run((TRUTH, half), boxes="pixels")["corloc"] == (0, 1)
    assert run((TRUTH, box((1, 4), (1, 3))), boxes="pixels")["corloc"] == (1, 1)


def test_recall_counts_objects_and_corloc_frames():
    truth = TRUTH + box((6, 7), (5, 7), 2)
    row = run((truth, TRUTH), (truth, truth), (truth, np.zeros_like(truth)))
    assert row["recall"] == (1.5, 3)
    assert row["corloc"] == (2, 3)
    assert row["corloc_mask"] == (2, 3)


def test_the_background_has_a_box_too():
    large = box((0, 7), (0, 6))
    alone = np.zeros_like(large)
    assert run((large, alone))["corloc"] == (1, 1)
    assert run((large, np.zeros_like(alone) + np.uint8(3)))["corloc"] == (1, 1)


def test_frames_without_objects_are_left_out():
    empty, void = np.zeros_like(TRUTH), np.full_like(TRUTH, 255)
    assert set(run((empty, TRUTH), (void, TRUTH)).values()) == {(0, 0)}
    assert set(run((empty, TRUTH), (TRUTH, TRUTH)).values()) == {(1, 1)}
    assert set(run().values()) == {(0, 0)}


def test_void_belongs_to_no_mask_and_stretches_no_box():
    truth = TRUTH.copy()
    truth[5:] = 255
    assert set(run((truth, box((1, 7), (1, 4)))).values()) == {(1, 1)}


@pytest.mark.filterwarnings("error")
def test_one_pixel_objects():
    pixel = box((3, 3), (3, 3))
    assert run((pixel, pixel))["corloc"] == (0, 1)  # no area between its corners
    assert run((pixel, pixel))["corloc_mask"] == (1, 1)
    assert run((pixel, pixel), boxes="pixels")["corloc"] == (1, 1)


def test_boxes_are_tight_and_in_order():
    labels = box((1, 2), (3, 5), 4) + box((7, 7), (0, 0), 2)
    assert tight_boxes(labels).tolist() == [[7, 0, 7, 0], [1, 3, 2, 5]]
    assert tight_boxes(np.zeros((3, 3), int)).shape == (0, 4)


def test_frames_may_live_in_torch():
    pair = TRUTH, box((1, 4), (1, 3))
    assert run(tuple(map(torch.from_numpy, pair))) == run(pair)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="choose corners or pixels"):
        CorLoc(boxes="tight")
    with pytest.raises(ValueError, match="choose out or in"):
        CorLoc(mask_background="no")
    with pytest.raises(RuntimeError, match="start"):
        CorLoc().update(TRUTH, TRUTH, 0)
    with pytest.raises(ValueError, match=r"video 'clip', frame 0: .*one size"):
        run((TRUTH, TRUTH[1:]))
    with pytest.raises(TypeError, match=r"frame 0: .*astype"):
        run((TRUTH, TRUTH.astype(float)))
