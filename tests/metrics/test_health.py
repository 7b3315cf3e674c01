"""Numbers of health on failures built by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.metrics.health import agreement, mask_health, winners
from slotreel.metrics.health_slots import slot_health
from slotreel.metrics.health_soft import soft_health
from tests.metrics.clips import labels

K = 4
QUARTERS = labels("0011/0011/2233/2233")  # uint8 (1, 4, 4)


def hot(maps, num_slots=K):
    """Masks (T, K, h, w) that leave no doubt about label maps (T, h, w)."""
    return torch.nn.functional.one_hot(torch.as_tensor(maps).long(), num_slots).movedim(-1, 1) * 1.0


def repeat(maps, times):
    return np.concatenate([maps] * times)


def rename(maps, names):
    return np.asarray(names, np.uint8)[maps]


def moving():
    """A bar of slot 1, two cells high, one step to the right per frame over slot 0."""
    return labels("1000/1000/0000", "0100/0100/0000", "0010/0010/0000")


def axes(*indices):
    """One slot per index, unit vectors of an eight-dimensional space: (K, 8)."""
    return torch.eye(8)[list(indices)]


# ---- masks


def test_identical_slots_give_everything_to_the_first():
    masks = torch.full((3, K, 4, 4), 0.25)
    found = mask_health([winners(masks), winners(masks)], K)
    assert found == pytest.approx(
        {
            "effective_slots": 1,
            "usage_entropy": 0,
            "dead_slots": 0.75,
            "always_dead": 0.75,
            "temporal_iou": 1,
            "switch_rate": 0,
            "place_bias": 0.25,  # one of four slots is where it was
            "fragments": 1,
        }
    )
    assert soft_health([masks]) == pytest.approx({"undecided": 1, "attention_spread": 1})
    assert agreement([masks], [masks]) == 1


def test_blocks_keep_their_place_in_every_clip():
    clips = [repeat(QUARTERS, 3), repeat(QUARTERS, 2)]
    assert mask_health(clips, K) == pytest.approx(
        {
            "effective_slots": 4,
            "usage_entropy": 1,
            "dead_slots": 0,
            "always_dead": 0,
            "temporal_iou": 1,
            "switch_rate": 0,
            "place_bias": 1,
            "fragments": 1,
        }
    )
    # blocks with other names are still blocks
    assert mask_health([QUARTERS, rename(QUARTERS, [3, 0, 1, 2])], K)["place_bias"] == 1


def test_fresh_slots_in_each_frame_lose_their_identity():
    found = mask_health([np.concatenate([QUARTERS, rename(QUARTERS, [1, 2, 3, 0])])], K)
    assert found["switch_rate"] == 1
    assert found["temporal_iou"] == 0
    assert found["effective_slots"] == pytest.approx(4)


def test_one_permuted_frame_costs_two_steps():
    swapped = rename(QUARTERS, [1, 0, 2, 3])
    clip = np.concatenate([QUARTERS, QUARTERS, swapped, QUARTERS, QUARTERS])
    found = mask_health([clip], K)
    assert found["switch_rate"] == pytest.approx(4 / 16)  # two of four slots, two of four steps
    assert found["temporal_iou"] == pytest.approx(12 / 16)


def test_a_moving_object_is_followed():
    found = mask_health([moving()], 2)
    # the bar shares no cell with itself, so it has no partner to count; slot 0 has 8 of 12
    assert found["switch_rate"] == 0
    assert found["temporal_iou"] == pytest.approx((0 + 8 / 12) / 2)
    assert found["effective_slots"] == pytest.approx(
        math.exp(-(2 / 12) * math.log(2 / 12) - (10 / 12) * math.log(10 / 12))
    )
    assert "place_bias" not in found


def test_content_decides_what_two_clips_share():
    here, there = labels("1100/0000/0000/0000"), labels("0000/0000/0000/0011")
    # slot 0: 12 of 16 shared; slot 1: none
    assert mask_health([here, there], 2)["place_bias"] == pytest.approx((12 / 16 + 0) / 2)


def test_dead_in_a_clip_and_dead_in_all():
    clips = [labels("00/11"), labels("00/22")]
    found = mask_health(clips, K)
    assert found["dead_slots"] == 0.5
    assert found["always_dead"] == 0.25
    # a slot with 1 of 400 cells is not alive
    crumb = np.zeros((1, 20, 20), np.uint8)
    crumb[0, 0, 0] = 1
    assert mask_health([crumb], 2)["always_dead"] == 0.5
    crumb[0, 0, 1] = 1
    assert mask_health([crumb], 2)["always_dead"] == 0


def test_fragments_have_three_cells_that_touch_along_edges():
    clip = labels("1110/0000/1110/0001")
    # slot 1: two bars and one cell at their corner; slot 0: row 1 with the last column and the
    # three cells below the second bar
    assert mask_health([clip], 2)["fragments"] == pytest.approx((2 + 2) / 2)


def test_one_slot_leaves_out_what_needs_two():
    found = mask_health([np.zeros((2, 3, 3), np.uint8)] * 2, 1)
    assert found == {
        "effective_slots": 1, "dead_slots": 0, "always_dead": 0, "temporal_iou": 1,
        "switch_rate": 0, "place_bias": 1, "fragments": 1,
    }  # fmt: skip
    assert soft_health([torch.ones(2, 1, 3, 3)]) == pytest.approx({"attention_spread": 1})


def test_one_frame_of_one_clip_leaves_out_time_and_place():
    found = mask_health([QUARTERS], K)
    assert set(found) == {
        "effective_slots", "usage_entropy", "dead_slots", "always_dead", "fragments",
    }  # fmt: skip
    other = labels("00/11")  # another grid: no pair to compare
    assert "place_bias" not in mask_health([QUARTERS, other], K)
    with pytest.raises(ValueError, match="at least one clip"):
        mask_health([], K)


def test_undecided_and_spread_by_hand():
    masks = torch.zeros(1, 2, 1, 4)
    masks[0, 0] = torch.tensor([1.0, 0.5, 0.0, 0.0])
    masks[0, 1] = torch.tensor([0.0, 0.5, 0.0, 0.5])
    found = soft_health([masks])
    # decided, torn, wanted by none (counts 1), decided although the mask is only half
    assert found["undecided"] == pytest.approx((0 + 1 + 1 + 0) / 4)
    uneven = math.exp(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3))
    assert found["attention_spread"] == pytest.approx((uneven / 4 + 2 / 4) / 2)
    masks[0, 1] = 0  # a slot without mass looks nowhere
    assert soft_health([masks])["attention_spread"] == pytest.approx(uneven / 4)
    assert "attention_spread" not in soft_health([torch.zeros(1, 2, 1, 4)])


def test_agreement_counts_slots_alive_in_one_of_both():
    one, other = hot(labels("0011/0011")), hot(labels("0111/0111"))
    # slot 0: 2 of 4; slot 1: 4 of 6; slots 2 and 3 are dead in both
    assert agreement([one], [other]) == pytest.approx((2 / 4 + 4 / 6) / 2)
    coarse, fine = hot(labels("01")), hot(labels("0011/0011"))
    assert agreement([coarse], [fine]) == agreement([fine], [coarse]) == 1


# ---- slots


def test_identical_slot_vectors():
    found = slot_health([torch.ones(3, K, 8)] * 2)
    assert found == pytest.approx({"slot_cosine": 1, "duplicates": 1, "identity_margin": 0})


def test_healthy_slots_by_hand():
    """Three orthogonal slots that stay themselves, other ones in the second clip."""
    first, second = (axes(*i).expand(2, 3, 8) for i in ((0, 1, 2), (3, 4, 5)))
    found = slot_health([first, second])
    assert found["slot_cosine"] == pytest.approx(0)
    assert found["duplicates"] == 0
    assert found["identity_margin"] == pytest.approx(1)
    # six unit vectors, equally often, around their mean: five equal directions
    assert found["slot_rank"] == pytest.approx(5)
    # total 1 - 1/6; an index is one of two orthogonal vectors: 1 - 1/2
    assert found["content_share"] == pytest.approx((1 / 2) / (5 / 6))


def test_the_same_slots_for_every_clip():
    found = slot_health([axes(0, 1, 2)[None]] * 4)
    assert found["content_share"] == pytest.approx(0)
    assert found["slot_rank"] == pytest.approx(2)  # three points span a plane
    assert "identity_margin" not in found


def test_fresh_slot_vectors_have_a_negative_margin():
    fresh = torch.stack([axes(0, 1, 2), axes(1, 2, 0)])
    assert slot_health([fresh])["identity_margin"] == pytest.approx(-1)
    clip = torch.stack([axes(0, 1, 2), axes(1, 0, 2), axes(0, 1, 2)])  # one permuted frame
    assert slot_health([clip])["identity_margin"] == pytest.approx((-1 - 1 + 1) / 3)


def test_twins_are_counted_and_the_margin_is_to_the_nearest_rival():
    twins = torch.stack([axes(0, 1)[0], axes(0, 1)[1], axes(0, 1)[1] + 0.1 * axes(2)[0]])[None]
    cosine = 1 / math.sqrt(1.01)
    found = slot_health([twins.expand(2, 3, 8)])
    assert found["duplicates"] == pytest.approx(2 / 3)
    assert found["slot_cosine"] == pytest.approx(cosine / 3)
    assert found["identity_margin"] == pytest.approx((1 + 2 * (1 - cosine)) / 3)


def test_what_slot_vectors_cannot_say_is_left_out():
    assert slot_health([torch.ones(2, 1, 8)]) == {}
    lone = slot_health([axes(0, 1)[None]])
    assert set(lone) == {"slot_cosine", "duplicates", "slot_rank"}
    zero = slot_health([torch.zeros(2, 2, 8)])
    assert zero == {"slot_cosine": 0, "duplicates": 0, "identity_margin": 0}
    with pytest.raises(ValueError, match="at least one clip"):
        slot_health([])


# ---- laws

clips = st.tuples(st.integers(0, 2**31 - 1), st.integers(2, 5), st.integers(1, 3)).map(
    lambda drawn: [
        (
            torch.rand(2 + i, drawn[1], 5, 6, generator=g),
            torch.randn(2 + i, drawn[1], 7, generator=g),
        )
        for g in [torch.Generator().manual_seed(drawn[0])]
        for i in range(drawn[2])
    ]
)
law = settings(max_examples=25, deadline=None)


def health(clips):
    masks, slots = zip(*clips, strict=True)
    num_slots = masks[0].shape[1]
    own = agreement(masks, [m.square() + 0.1 * m.roll(1, -1) for m in masks])
    hard = mask_health([winners(m) for m in masks], num_slots)
    return hard | soft_health(masks) | slot_health(slots) | {"agreement": own}


BY_INDEX = {
    "always_dead", "dead_slots", "temporal_iou", "switch_rate", "identity_margin", "content_share",
}  # fmt: skip


@law
@given(clips, st.randoms(use_true_random=False))
def test_names_of_slots_do_not_matter(clips, random):
    order = random.sample(range(clips[0][0].shape[1]), clips[0][0].shape[1])
    renamed = [(masks[:, order], slots[:, order]) for masks, slots in clips]
    assert health(renamed) == pytest.approx(health(clips))


@law
@given(clips, st.randoms(use_true_random=False))
def test_names_that_change_in_each_frame_touch_only_what_is_by_index(clips, random):
    def shuffled(x, orders):
        return torch.stack([frame[order] for frame, order in zip(x, orders, strict=True)])

    changed = []
    for masks, slots in clips:
        numbers = range(masks.shape[1])
        orders = [random.sample(numbers, len(numbers)) for _ in masks]
        changed.append((shuffled(masks, orders), shuffled(slots, orders)))
    before, after = health(clips), health(changed)
    assert {k: v for k, v in after.items() if k not in BY_INDEX} == pytest.approx(
        {k: v for k, v in before.items() if k not in BY_INDEX}
    )


@law
@given(clips)
def test_bounds(clips):
    found = health(clips)
    num_slots = clips[0][0].shape[1]
    assert 1 <= found["effective_slots"] <= num_slots + 1e-9
    assert 1 <= found["slot_rank"] <= 7 + 1e-9
    for name in found.keys() - {"effective_slots", "slot_rank", "fragments"}:
        low = -2 if name == "identity_margin" else -1 if name == "slot_cosine" else 0
        assert low - 1e-9 <= found[name] <= 2, name


@law
@given(clips)
def test_a_clip_seen_twice_changes_no_mean_over_frames(clips):
    before, after = health(clips), health(clips * 2)
    for name in before.keys() - {"place_bias", "content_share"}:
        assert after[name] == pytest.approx(before[name]), name
