"""ARI, FG-ARI, mBO and mIoU against worked numbers and the reference program."""

import numpy as np
import pytest

from tests.metrics.clips import labels, mean, run

TRUTH = labels(*["0011/0011/2222"] * 2)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (
            labels(*["0011/0012/2222"] * 2),
            {
                "ari_frame": 0.737201,
                "fg_ari_frame": 0.494845,
                "ari_video": 0.763583,
                "fg_ari_video": 0.533333,
                "fg_ari_video_multi": 0.533333,
                "mbo_frame": 0.775,
                "mbo_video": 0.775,
                "mbo_frame, in": 0.85,
                "mbo_video, in": 0.85,
            },
        ),
        (
            labels("0011/0012/2222", "0022/0022/1111"),
            {
                "ari_frame": 0.868601,
                "fg_ari_frame": 0.747423,
                "ari_video": 0.462736,
                "fg_ari_video": -0.053512,
                "mbo_frame": 0.8875,
                "mbo_video": 0.390152,
                "mbo_frame, in": 0.925,
                "mbo_video, in": 0.593434,
            },
        ),
    ],
)
def test_two_frames_worked_by_hand(prediction, expected):
    row = run(TRUTH, prediction + np.uint8(1))
    with_background = run(TRUTH, prediction + np.uint8(1), iou_background="in")
    row |= {f"{name}, in": value for name, value in with_background.items()}
    for name, value in expected.items():
        assert mean([row], name) == pytest.approx(value, abs=5e-7), name
        assert row[name][1] == (2 if "frame" in name else 1)


ONE_FRAME = [
    # truth, prediction, ARI, FG-ARI, mBO and mIoU with background, mBO and mIoU of objects
    ("0000/0000", "0011/0011", 0, 1, 0.5, 0.5, np.nan, np.nan),
    ("0011/0011", "0011/0022", 0.695652, 0, 0.75, 0.75, 0.5, 0.5),
    ("0000/0010", "0000/0000", 0, 1, 0.5, 0.4375, 0.125, 0.125),
    ("0000/0010", "0000/0011", 0.461538, 1, 0.678571, 0.678571, 0.5, 0.5),
]


@pytest.mark.parametrize(
    ("truth", "prediction", "ari", "fg_ari", "mbo_in", "miou_in", "mbo", "miou"), ONE_FRAME
)
def test_one_frame_worked_by_hand(truth, prediction, ari, fg_ari, mbo_in, miou_in, mbo, miou):
    pair = labels(truth), labels(prediction)
    row = run(*pair, empty_frame="one")
    row_in = run(*pair, iou_background="in")
    for sample in ("frame", "video"):
        for name, value in {"ari": ari, "fg_ari": fg_ari, "mbo": mbo, "miou": miou}.items():
            got = mean([row], f"{name}_{sample}")
            assert got == pytest.approx(value, abs=5e-7, nan_ok=True), name
        assert mean([row_in], f"mbo_{sample}") == pytest.approx(mbo_in, abs=5e-7)
        assert mean([row_in], f"miou_{sample}") == pytest.approx(miou_in, abs=5e-7)
    assert row["fg_ari_video_multi"] == (0, 0)


SETTINGS = {  # arguments, name of its ARI
    "background ignored": ({"empty_frame": "one"}, "fg_ari"),
    "background kept": ({"iou_background": "in"}, "ari"),
    "no background channel": ({"background": "none"}, "ari"),
}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("background ignored", (0.555556, 0.615385, 0.666667, 0.687500, 0.666667)),
        ("background kept", (0.492683, 0.424901, 0.682540, 0.694444, 0.682540)),
        ("no background channel", (0.555556, 0.615385, 0.666667, 0.687500, 0.666667)),
    ],
)
def test_a_clip_with_a_moving_object(setting, expected):
    arguments, ari = SETTINGS[setting]
    truth, prediction = labels("0110/0112", "0011/2200"), labels("0112/0122", "0011/2202")
    row = run(truth, prediction, **arguments)
    names = (f"{ari}_video", f"{ari}_frame", "mbo_video", "mbo_frame", "miou_video")
    got = [mean([row], name) for name in names]
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "expected", "counted"),
    [
        ("background ignored", (0.666667, 0.75, 0.230769, 0.416667), (3, 2)),
        ("background kept", (0.523810, 0.75, 0.146269, 0.468254), (3, 3)),
        ("no background channel", (0.5, 0.75, 0.230769, 0.416667), (2, 2)),
    ],
)
def test_frames_without_and_with_one_object(setting, expected, counted):
    arguments, ari = SETTINGS[setting]
    truth, prediction = labels("0000", "0110", "0112"), labels("0112", "0120", "0112")
    row = run(truth, prediction, **arguments)
    names = (f"{ari}_frame", "mbo_frame", f"{ari}_video", "mbo_video")
    assert [mean([row], name) for name in names] == pytest.approx(expected, abs=1e-6)
    assert (row[f"{ari}_frame"][1], row["mbo_frame"][1]) == counted
