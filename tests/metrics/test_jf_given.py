"""J&F with given objects: DAVIS-2017 semi-supervised."""

import numpy as np
import pytest

from slotreel.metrics.jf import JF
from slotreel.types import VideoInfo

SIZE = (24, 32)
ONE, TWO = (slice(4, 12), slice(4, 14)), (slice(10, 20), slice(16, 28))
CASES = [*range(39), 40, 42, 43]  # the stored ones


def scene(one=1, two=2, frames=6):
    maps = np.zeros((frames, *SIZE), np.uint8)
    maps[(slice(None), *ONE)] = one
    maps[(slice(None), *TWO)] = two
    return maps


def run(truth, prediction, **arguments):
    """Row and objects of one video."""
    metric = JF(matching="identity", **arguments)
    metric.start(VideoInfo("clip", len(truth), truth.shape[1:]))
    for t, (g, p) in enumerate(zip(truth, prediction, strict=True)):
        metric.update(p, g, t)
    return metric.finish(), metric.objects()


def without(label, frames):
    """The scene, one label gone in some frames."""
    maps = scene()
    maps[frames] = np.where(maps[frames] == label, 0, maps[frames])
    return maps


def with_patch(truth, value):
    truth[:, 4:12, 14:17] = value
    return truth


def late_third():
    truth = scene()
    truth[2:, :3, :3] = 3
    return truth


RIGHT = np.roll(scene(), 1, axis=2)
THIRTEENTHS, SHIFTED = 10 / 13, (9 / 11, 11 / 13)
TABLE = {
    # truth, prediction, J, F, J recall, J decay of every object
    "one pixel to the right": (scene(), RIGHT, SHIFTED, (1, 1), (1, 1), (0, 0)),
    "ids swapped": (scene(), scene(2, 1), (0, 0), (0, 0), (0, 0), (0, 0)),
    "object 2 leaves, prediction follows": (
        *[without(2, slice(3, None))] * 2,
        *[(1, 1), (1, 1), (1, 1), (0, 0)],
    ),
    "object 2 leaves, prediction keeps it": (
        *[without(2, slice(3, None)), scene()],
        *[(1, 0.5), (1, 0.5), (1, 0.5), (0, 1)],
    ),
    "object 1 away in frames 2 and 3, lost from 2 on": (
        *[without(1, [2, 3]), without(1, slice(2, None))],
        *[(0.75, 1), (0.75, 1), (0.75, 1), (0.5, 0)],
    ),
    "object 1 in frame 0 only, not predicted": (
        *[without(1, slice(1, None)), scene(0, 2)],
        *[(1, 1), (1, 1), (1, 1), (0, 0)],
    ),
    "object 1 in frame 0 only, prediction keeps it": (
        *[without(1, slice(1, None)), scene()],
        *[(0, 1), (0, 1), (0, 1), (0, 0)],
    ),
    "prediction spills into void": (
        *[with_patch(scene(), 255), with_patch(scene(), 1)],
        *[(THIRTEENTHS, 1), (0.794872, 1), (1, 1), (0, 0)],
    ),
    "id 3 appears in frame 2": (late_third(), scene(), (1, 1), (1, 1), (1, 1), (0, 0)),
    "ids 1 and 3, predicted 1 and 2": (
        *[scene(1, 3), scene(1, 2)],
        *[(1, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)],
    ),
    "nothing predicted": (scene(), scene(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)),
}


@pytest.mark.parametrize("case", TABLE)
def test_worked_by_hand(case):
    truth, prediction, j, f, recall, decay = TABLE[case]
    row, objects = run(truth, prediction)
    expected = {"j": j, "f": f, "j_recall": recall, "j_decay": decay}
    for name, values in expected.items():
        assert row[name] == (pytest.approx(sum(values), abs=1e-6), len(values)), name
        got = [objects[str(n + 1)][name] for n in range(len(values))]
        assert got == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize("case", CASES)
def test_reference_sequences(golden, case):
    key = f"semi_{case:03d}_"
    row, objects = run(golden[key + "gt"], golden[key + "pred"])
    of_frames, stat = golden[key + "frames"], golden[key + "stat"]
    for side, name in enumerate("jf"):
        np.testing.assert_allclose(stat[side, :, 0], of_frames[side].mean(-1), atol=1e-15)
        for column, suffix in enumerate(("", "_recall", "_decay")):
            want = stat[side, :, column]
            got = [objects[str(n + 1)][name + suffix] for n in range(len(want))]
            np.testing.assert_allclose(got, want, atol=1e-12)
            assert row[name + suffix] == (pytest.approx(want.sum(), abs=1e-12), len(want))
    assert row["jf"][0] == pytest.approx((row["j"][0] + row["f"][0]) / 2)


def test_first_and_last_frame_are_never_looked_at():
    truth, prediction = scene(), scene()
    prediction[[0, -1]] = 200
    truth[-1] = 0
    assert run(truth, prediction)[0]["jf"] == (2.0, 2)


def test_ids_the_first_frame_lacks_are_refused():
    prediction = scene()
    prediction[3, 0, 0] = 3
    with pytest.raises(ValueError, match=r"video 'clip', frame 3: .*up to 2.*got id 3.*protocol="):
        run(scene(), prediction)
    void = scene()
    void[2, 0, 0] = 255
    with pytest.raises(ValueError, match=r"frame 2: .*got id 255"):
        run(scene(), void)


def test_a_video_needs_three_frames():
    for frames in (0, 1, 2):
        with pytest.raises(ValueError, match=rf"at least 3, got {frames}"):
            run(scene(frames=frames), scene(frames=frames))
    assert run(scene(frames=3), scene(frames=3))[0]["j"] == (2.0, 2)


def test_a_video_without_object_has_no_score():
    empty = np.zeros((4, *SIZE), np.uint8)
    row, objects = run(empty, empty)
    assert set(row.values()) == {(0.0, 0.0)}
    assert objects == {}


def test_a_frame_of_void_is_an_empty_frame():
    truth = scene()
    truth[2] = 255
    assert run(truth, scene())[0]["j"] == (pytest.approx(1.5), 2)
    assert run(truth, without(1, [2]))[0]["j"] == (pytest.approx(1.75), 2)


def test_merged_objects_are_one_foreground():
    row, objects = run(scene(), scene(7, 9), merge_objects=True)
    assert row["jf"] == (1.0, 1)
    assert list(objects) == ["1"]
    spilled = with_patch(scene(), 255), with_patch(scene(), 1)
    row, _ = run(*spilled, merge_objects=True)
    assert row["j"][0] == pytest.approx(198 / 222)  # void has eaten 2 pixels of object 2
