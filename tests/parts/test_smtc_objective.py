"""The two-level grouper inside the suite: what is decoded, which masks are looked at."""

from __future__ import annotations

import pytest
import torch

from slotreel.assemble import build_objective
from slotreel.errors import ConfigError
from slotreel.objective import SlotObjective
from slotreel.streaming import evaluating
from slotreel.types import MaskSource, Prediction, VideoInfo
from tests import running

SMALL = ("debug=tiny", "num_slots=3", "slot_dim=16", "decoder.hidden_dim=16", "grouper=smtc")


def built(*overrides: str) -> SlotObjective:
    objective = build_objective(running.composed("train", *SMALL, *overrides))
    assert isinstance(objective, SlotObjective)
    return objective


def stream(objective: SlotObjective, masks: MaskSource, pieces: int = 1) -> list[Prediction]:
    frames = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with evaluating(objective):
        one = objective.stream(VideoInfo("clip", 4, (64, 64)), masks=masks)
        found = [p for part in frames.chunk(pieces) for p in one.push(part)]
        return [*found, *one.finish()]


def test_every_source_of_masks_has_slots_of_its_own() -> None:
    objective = built("losses=ss_contrastive", "grouper.num_instances=2")
    counts: dict[MaskSource, int] = {"grouper": 6, "instance": 6, "semantic": 3, "decoder": 3}
    for source, slots in counts.items():
        for prediction in stream(objective, source):
            assert prediction.masks is not None
            assert prediction.slots is not None
            assert len(prediction.masks) == len(prediction.slots) == slots
            torch.testing.assert_close(
                prediction.masks.sum(0), torch.ones(prediction.masks.shape[1:])
            )


def test_the_decoder_gets_what_the_loss_decodes() -> None:
    objective = built("losses=feature_rec", "losses.feature_rec.level=slots")
    masks = stream(objective, "decoder")[0].masks
    assert masks is not None
    assert len(masks) == 12


def test_frame_by_frame_is_the_same_as_all_at_once() -> None:
    for draw in ("per_clip", "per_frame"):
        objective = built("losses=ss_contrastive", f"grouper.draw={draw}")
        for whole, part in zip(
            stream(objective, "grouper"), stream(objective, "grouper", 4), strict=True
        ):
            torch.testing.assert_close(whole.masks, part.masks)


def test_a_grouper_that_wraps_is_streamed_in_groups_of_the_clip_length() -> None:
    objective = built("losses=ss_contrastive", "grouper.first_reference=wrap", "clip_length=3")
    torch.nn.init.normal_(objective.model.grouper.fusion.weight)  # type: ignore[union-attr,arg-type]
    whole, part = (stream(objective, "grouper", pieces) for pieces in (1, 4))
    assert [p.frame for p in whole] == [p.frame for p in part] == [0, 1, 2, 3]
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one.masks, other.masks)
    objective.model.grouper.window = 2
    assert not torch.allclose(stream(objective, "grouper")[0].masks, whole[0].masks)  # type: ignore[arg-type]


def test_levels_that_do_not_exist_are_refused_before_the_first_batch() -> None:
    plain = ("grouper=slot_attention", "losses=slot_contrast")
    with pytest.raises(ConfigError, match=r"level=auto, or grouper=smtc"):
        built(
            "grouper=slot_attention", "losses=slot_contrast", "losses.slot_contrast.level=semantic"
        )
    with pytest.raises(ConfigError, match=r"type model.masks=grouper, or grouper=smtc"):
        built(*plain, "model.masks=semantic")


def test_sources_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="grouper=smtc"):
        stream(built("grouper=slot_attention", "losses=ss_contrastive"), "semantic")
