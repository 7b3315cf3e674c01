"""Slots are watched without touching the model, and what is seen is said in words."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from slotreel.assemble import build_objective
from slotreel.baselines.trivial import Blocks, ForegroundOracle, OneSlot
from slotreel.build import build_validations
from slotreel.health import watch_slots
from slotreel.interfaces import Objective
from slotreel.metrics.segmentation import Segmentation
from slotreel.protocols.protocol import Protocol
from slotreel.protocols.symptoms import (
    PAGE,
    SYMPTOMS,
    anchor,
    flat_health,
    health_in_words,
    symptoms,
)
from slotreel.training.run import Validation
from slotreel.types import Prediction
from tests import running

SMALL = (
    "image_size=32", "slot_dim=16", "num_slots=4", "decoder.hidden_dim=16",
    "dataset.validation.moving_shapes.data.num_videos=3",
)  # fmt: skip
LABELLED = {"slots_per_object", "background_leak", "identity_cost", "mbo_large"}
SOFT = {"undecided", "attention_spread"}
SLOTS = {"slot_cosine", "duplicates", "identity_margin", "slot_rank", "content_share"}
HARD = {"effective_slots", "usage_entropy", "dead_slots", "always_dead", "temporal_iou",
        "place_bias", "fragments"}  # fmt: skip


def watch(objective: Objective, validation: Validation, num_videos: int = 2):
    return watch_slots(
        objective,
        validation,
        image_size=(32, 32),
        device=torch.device("cpu"),
        num_videos=num_videos,
    )


@pytest.fixture
def validation(videos) -> Validation:
    return Validation("set", videos, Protocol(name="p", metrics=[Segmentation()]))


def test_both_sources_of_a_slot_model_are_watched() -> None:
    cfg = running.composed("train", *SMALL)
    objective, (validation,) = build_objective(cfg), build_validations(cfg)
    objective.train()
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    random = torch.get_rng_state()
    health = watch(objective, validation)
    assert set(health) == {"grouper", "decoder"}
    for values in health.values():
        assert values.keys() >= LABELLED | SOFT | SLOTS | HARD | {"agreement", "num_slots"}
        assert all(np.isfinite(list(values.values())))
    assert {k: health["grouper"][k] for k in SLOTS} == {k: health["decoder"][k] for k in SLOTS}
    # nothing moved, and the second look sees the same
    assert objective.training
    assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert watch(objective, validation) == health


def test_a_model_without_decoder_has_one_source() -> None:
    cfg = running.composed("train", *SMALL[:3], SMALL[4], "losses=slot_contrast", "decoder=none")
    objective, (validation,) = build_objective(cfg), build_validations(cfg)
    health = watch(objective, validation)
    assert set(health) == {"grouper"}
    assert "agreement" not in health["grouper"]


def test_labels_give_what_they_can(validation: Validation) -> None:
    health = watch(Blocks(num_slots=4), validation)["model"]
    assert health["place_bias"] == 1
    assert health["num_slots"] == 4
    assert health.keys() >= LABELLED | HARD
    assert not health.keys() & (SLOTS | SOFT)
    assert watch(OneSlot(num_slots=4), validation)["model"]["dead_slots"] == 0.75
    truth = watch(ForegroundOracle(num_slots=2), validation)["model"]
    assert truth["background_leak"] == 0
    assert truth["objects_per_slot"] == 2


def test_numbers_are_those_of_the_predictions(validation: Validation, make_answers) -> None:
    """Perfect masks and slots that are the same in every video."""
    videos = validation.source

    def answer(video, t, frame):
        truth = torch.as_tensor(videos.videos[video.id][t]).long()
        masks = torch.nn.functional.one_hot(truth, 3).movedim(-1, 0).float()
        return Prediction(t, masks=masks, slots=torch.eye(3))

    health = watch(make_answers(answer), validation, num_videos=5)["model"]
    assert health["slots_per_object"] == health["objects_per_slot"] == 1
    assert health["background_leak"] == health["undecided"] == 0
    assert health["content_share"] == pytest.approx(0)
    assert health["identity_margin"] == health["mbo_large"] == health["fragments"] == 1


def test_only_the_first_videos_are_watched(validation: Validation, make_answers) -> None:
    model = make_answers(lambda video, t, frame: Prediction(t, masks=torch.ones(2, 2, 2)))
    watch(model, validation, num_videos=2)
    assert {video for video, *_ in model.seen} == {"v0", "v1"}
    assert all(not training and not gradient for *_, training, gradient in model.seen)
    assert model.training
    assert watch(model, validation, num_videos=0) == {}


def test_sets_without_masks_have_health_without_labels(validation: Validation, make_videos) -> None:
    videos = make_videos(validation.source.videos, masks=False)
    unlabelled = validation._replace(source=videos, labelled=False)
    health = watch(Blocks(num_slots=4), unlabelled)["model"]
    assert health["place_bias"] == 1
    assert not health.keys() & LABELLED
    assert watch(ForegroundOracle(num_slots=2), unlabelled) == {}


# ---- words


WORKS = {
    "num_slots": 7.0, "effective_slots": 4.08, "always_dead": 0.0, "place_bias": 0.18,
    "switch_rate": 0.02, "identity_margin": 0.72, "undecided": 0.45, "agreement": 0.48,
    "slot_cosine": 0.03, "fragments": 1.1,
}  # fmt: skip


def test_health_in_words() -> None:
    assert health_in_words("grouper", WORKS) == (
        "health (grouper): 4.1 of 7 slots in use, 0 dead, masks follow content (place bias 0.18), "
        "identity lost in 2 % of steps (margin 0.72), undecided 0.45, "
        "grouper and decoder agree 0.48"
    )
    assert "follow place (" in health_in_words("grouper", WORKS | {"place_bias": 0.73})
    assert "content and place (" in health_in_words("grouper", WORKS | {"place_bias": 0.48})
    few = {"num_slots": 6.0, "effective_slots": 1.0, "always_dead": 5 / 6, "place_bias": 1 / 6}
    assert health_in_words("model", few) == "health (model): 1.0 of 6 slots in use, 5 dead"


@pytest.mark.parametrize(
    ("values", "headings"),
    [
        ({}, []),
        ({"place_bias": 0.73, "slot_cosine": 0.45}, ["Slots cut the frame by place"]),
        ({"switch_rate": 0.76, "identity_margin": -0.15, "place_bias": 0.48},
         ["Slots change places from frame to frame"]),
        ({"slot_cosine": 1.0, "effective_slots": 1.0, "always_dead": 0.86, "undecided": 1.0},
         ["All slots are alike", "No slot wins", "Slots that own nothing"]),
        ({"undecided": 0.8, "agreement": 0.14}, ["No slot wins", "Masks that cannot be trusted"]),
    ],
    ids=["works", "place", "fresh", "identical", "not to be trusted"],
)  # fmt: skip
def test_each_failure_that_was_tried_has_its_symptom(values, headings) -> None:
    found = symptoms(WORKS | values)
    assert list(found) == headings
    for heading, text in found.items():
        assert f"{PAGE}#{anchor(heading)}" in text
        assert any(name in text for name in values)


def test_one_slot_has_no_symptoms() -> None:
    assert symptoms({"num_slots": 1.0, "effective_slots": 1.0, "place_bias": 1.0}) == {}


@pytest.mark.parametrize("heading", SYMPTOMS)
def test_each_symptom_has_a_section_that_shows_its_numbers(heading: str) -> None:
    text = (running.ROOT / PAGE).read_text()
    sections = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", text, flags=re.MULTILINE))
    assert heading in sections
    for threshold in SYMPTOMS[heading]:
        assert f"`{threshold.name}`" in sections[heading], threshold.name
    assert "\n    ./train.py " in sections[heading], "a section says what to type"


def test_keys() -> None:
    assert flat_health("set", {"grouper": {"undecided": 0.5}}) == {
        "health/set/grouper/undecided": 0.5
    }
