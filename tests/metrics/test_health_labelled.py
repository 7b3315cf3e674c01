"""Numbers of health that need labels, on small scenes counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.functional import adjusted_rand_index, contingency, label_count
from slotreel.metrics.health_labelled import labelled_health
from tests.label_maps import blocks
from tests.metrics.clips import labels, mean, run


def health(*clips):
    """Of (truth, prediction) label maps, every frame annotated."""
    tables = [contingency(truth, slots, max(label_count(truth), 1), 5) for truth, slots in clips]
    return labelled_health(tables, [range(len(truth)) for truth, _ in clips])


TRUTH = labels("1122/1122/0000")


def test_each_object_in_a_slot_of_its_own_is_healthy():
    found = health((labels("1122/1122/0000", "1122/1122/0000"),) * 2)
    ideal = {"slots_per_object": 1, "objects_per_slot": 1, "background_leak": 0,
             "identity_cost": 0, "id_switches": 0, "fg_ari_2_objects": 1, "mbo_large": 1,
             "fg_ari_frames_0": 1, "fg_ari_frames_1to3": 1}  # fmt: skip
    assert found == ideal


def test_over_and_under_segmentation():
    split = health((TRUTH, labels("1223/1433/0000")))
    # object 1: half slot 1, a quarter slots 2 and 4 each; object 2: a quarter slot 2, then slot 3
    assert split["slots_per_object"] == (3 + 2) / 2
    assert split["objects_per_slot"] == (1 + 2 + 1 + 1) / 4
    merged = health((TRUTH, labels("1111/1111/0000")))
    assert merged["slots_per_object"] == 1
    assert merged["objects_per_slot"] == 2
    assert merged["fg_ari_2_objects"] == 0


def test_a_crumb_does_not_own_an_object():
    truth = np.ones((1, 4, 5), np.uint8)
    crumb = np.zeros_like(truth)
    crumb[0, 0, 0] = 1
    assert health((truth, crumb))["slots_per_object"] == 1
    crumb[0, 0, 1] = 1  # 2 of 20: exactly a tenth
    assert health((truth, crumb))["slots_per_object"] == 2


def test_what_spills_into_the_background():
    found = health((TRUTH, labels("1122/1122/1100")))
    assert found["background_leak"] == pytest.approx((2 / 6 + 0) / 2)


def test_one_permuted_frame_switches_two_objects_twice():
    good, swapped = "1122/1122/0000", "2211/2211/0000"
    truth = labels(*[good] * 5)
    found = health((truth, labels(good, good, swapped, good, good)))
    assert found["id_switches"] == 4 / 10
    assert found["identity_cost"] > 0.4
    assert found["fg_ari_frames_0"] == found["fg_ari_frames_1to3"] == 1
    assert "same_slot_after_gap" not in found


def test_identity_cost_is_the_difference_of_the_table():
    rng = np.random.default_rng(0)
    clips = [(blocks(rng, 4, (3, 16, 16), void=0.1), blocks(rng, 5, (3, 16, 16))) for _ in range(3)]
    rows = [run(*clip) for clip in clips]
    difference = mean(rows, "fg_ari_frame") - mean(rows, "fg_ari_video")
    assert health(*clips)["identity_cost"] == pytest.approx(difference)


@pytest.mark.parametrize(("after", "same"), [("11/00", 1), ("22/00", 0)])
def test_an_object_that_comes_back(after, same):
    truth = labels("11/00", "00/00", "11/00")
    found = health((truth, labels("11/00", "00/00", after)))
    assert found["same_slot_after_gap"] == same
    assert found["id_switches"] == (1 - same) / 2  # two visible object-frames


def test_groups_by_number_size_and_position():
    truth = np.zeros((17, 20, 20), np.uint8)
    truth[:, 0, 0:3] = 1  # 0.75 % of the frame
    truth[:, 5:7, 0:5] = 2  # 2.5 %
    truth[:, 10:, :] = 3  # half
    prediction = truth.copy()
    prediction[:, 0, 3:6] = 1  # the small one bleeds to twice its size
    prediction[16] = 0  # and the last frame is lost
    found = health((truth, prediction))
    assert found["mbo_small"] == pytest.approx(16 * 3 / (16 * 6 + 3))
    assert found["mbo_medium"] == pytest.approx(16 / 17)
    assert found["mbo_large"] == pytest.approx(16 / 17)
    assert found["fg_ari_frames_0"] == found["fg_ari_frames_8to15"] == 1
    assert found["fg_ari_frames_16up"] == 0
    assert "fg_ari_1_objects" not in found
    table = contingency(truth, prediction, 4, 4).sum(0)
    assert found["fg_ari_3to4_objects"] == pytest.approx(float(adjusted_rand_index(table[1:])))


def test_clips_without_objects_or_annotation_say_nothing():
    empty = labels("00/00")
    assert health((empty, empty)) == {}
    assert labelled_health([np.zeros((0, 3, 2), np.int64)], [[]]) == {}
    void = np.full_like(empty, 255)
    tables = [contingency(void, empty, 2, 2)]
    assert labelled_health(tables, [[0]]) == {}


def test_positions_are_those_in_the_clip():
    tables = [contingency(TRUTH, TRUTH, 3, 3)]
    assert "fg_ari_frames_4to7" in labelled_health(tables, [[5]])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1).map(np.random.default_rng))
def test_names_of_slots_and_objects_do_not_matter(rng):
    truth = blocks(rng, 4, (4, 12, 16), void=0.05)
    slots = blocks(rng, 5, (4, 12, 16))
    table = contingency(truth, slots, 4, 5)
    renamed = table[:, [0, *1 + rng.permutation(3)]][..., rng.permutation(5)]
    before, after = (labelled_health([x], [range(4)]) for x in (table, renamed))
    unique = {"background_leak", "id_switches", "same_slot_after_gap"}  # ties may be broken anew
    assert {k: after[k] for k in after.keys() - unique} == pytest.approx(
        {k: before[k] for k in before.keys() - unique}
    )
