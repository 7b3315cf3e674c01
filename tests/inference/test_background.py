"""The background rule: what it drops, when it decides, what it holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotreel.errors import ConfigError
from slotreel.inference.background import BackgroundRule


def through(rule: BackgroundRule, maps: np.ndarray) -> np.ndarray:
    stream = rule.stream()
    ready = [labels for one in maps for labels in stream.push(one)]
    return np.stack([*ready, *stream.finish()])


@pytest.fixture
def ring() -> np.ndarray:
    """Label 3 fills the middle and has most pixels, label 2 the sides."""
    maps = np.full((12, 10, 12), 3, dtype=np.uint8)
    maps[:, [0, -1]], maps[:, :, [0, -1]] = 2, 2
    maps[:, 4, 4] = 1
    return maps


@pytest.mark.parametrize(("rule", "dropped"), [("largest", 3), ("border", 2), (0, 1), (2, 3)])
def test_the_named_label_becomes_0_and_the_others_stay(
    ring: np.ndarray, rule: str | int, dropped: int
) -> None:
    before = ring.copy()
    after = through(BackgroundRule(rule), ring)
    assert after.dtype == np.uint8
    assert np.array_equal(after, np.where(ring == dropped, 0, ring))
    assert np.array_equal(ring, before)


def test_none_passes_maps_on(ring: np.ndarray) -> None:
    stream = BackgroundRule().stream()
    labels = ring[0]
    assert stream.push(labels)[0] is labels
    assert stream.finish() == []


def test_a_corner_counts_once() -> None:
    labels = np.array([[2, 1, 2], [1, 9, 2], [2, 1, 1]], dtype=np.uint8)  # 4 : 4, corners 3 : 1
    assert not (through(BackgroundRule("border"), labels[None]) == 1).any()


def test_only_the_first_frames_decide() -> None:
    maps = np.ones((10, 4, 4), dtype=np.uint8)
    maps[3:] = 2
    assert (through(BackgroundRule("largest", frames=3), maps)[:3] == 0).all()
    assert (through(BackgroundRule("largest", frames=7), maps)[3:] == 0).all()


def test_ignored_and_dropped_pixels_never_win() -> None:
    maps = np.array([[[0, 0, 0, 255, 255, 255, 4]]], dtype=np.uint8)
    assert through(BackgroundRule("largest"), maps).tolist() == [[[0, 0, 0, 255, 255, 255, 0]]]
    nothing = maps[..., :6]
    assert np.array_equal(through(BackgroundRule("largest"), nothing), nothing)


def test_no_map_at_all() -> None:
    assert BackgroundRule("border").stream().finish() == []


@pytest.mark.parametrize("rule", ["biggest", -1, 254, True, None, 1.5])
def test_other_rules_are_refused(rule: object) -> None:
    with pytest.raises(ConfigError, match="background=largest"):
        BackgroundRule(rule)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="1 or more"):
        BackgroundRule("border", frames=0)


@given(
    rule=st.sampled_from(["none", "largest", "border", 1]),
    frames=st.integers(1, 6),
    num_maps=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_law_order_length_and_memory(
    rule: str | int, frames: int, num_maps: int, seed: int
) -> None:
    """Every map comes out once, in order, at most ``frames`` late; one label is gone, no other."""
    maps = np.random.default_rng(seed).integers(1, 5, (num_maps, 3, 4), dtype=np.uint8)
    stream = BackgroundRule(rule, frames=frames).stream()
    out: list[np.ndarray] = []
    for count, labels in enumerate(maps, 1):
        out += stream.push(labels)
        assert count - len(out) < frames
    out += stream.finish()
    assert len(out) == num_maps
    gone = {int(was) for one, labels in zip(out, maps, strict=True) for was in labels[one == 0]}
    assert gone <= {stream.dropped}
    for one, labels in zip(out, maps, strict=True):
        assert np.array_equal(one[one > 0], labels[one > 0])
        assert stream.dropped is None or not (one == stream.dropped).any()
