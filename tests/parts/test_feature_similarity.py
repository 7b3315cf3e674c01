import math

import pytest
import torch
import yaml
from closed_forms import CONF, built, context, dims, random, wave
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.assemble import build_objective
from slotreel.decoders.mlp import MLPDecoder
from slotreel.errors import ConfigError
from slotreel.losses.feature_similarity import FeatureSimilarityLoss, similarity_target
from slotreel.types import DecoderOutput, FrameFeatures, Target
from tests import running

WITH_KEYS = dims()._replace(key_width=6)
NAMED = "losses.feature_similarity"


def seen(slots, keys, pred=None, tokens=None, decoder=None):
    """A step in which the backbone gave these keys and the decoder these predictions."""

    def fixed(_slots, grid):
        return DecoderOutput({"similarity": pred}, None, grid)

    ctx = context(slots, tokens=tokens, decoder=decoder or fixed)
    student = ctx.student[0]
    features = FrameFeatures(student.features.tokens, student.features.grid, keys)
    return ctx._replace(student=(student._replace(features=features),))


def loss_of(keys, pred, **arguments):
    """Loss and logs for keys (B, T, N, E) and logits (B, T, N, N)."""
    b, t, n = keys.shape[:3]
    loss = FeatureSimilarityLoss(WITH_KEYS._replace(grid=(1, n)), **arguments)
    return loss(seen(random(b, t, 2, 8), keys, pred.flatten(0, 1)))


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


# --- options ---------------------------------------------------------------------------------


def test_option_builds_with_its_yaml():
    loss = built("losses", "feature_similarity", key="feature_similarity", dims=WITH_KEYS)
    assert (loss.weight, loss.temperature, loss.threshold) == (0.1, 0.075, 0.0)


def test_the_published_set_is_reconstruction_plus_a_tenth_of_similarity():
    text = yaml.safe_load((CONF / "losses" / "videosaur.yaml").read_text())
    assert text == {
        "defaults": ["feature_rec", "feature_similarity", "_self_"],
        "feature_similarity": {"weight": 0.1, "temperature": 0.25, "features": "keys"},
    }


def test_needs():
    needs = FeatureSimilarityLoss(WITH_KEYS).needs
    assert needs.decode == {"similarity": Target(12, "patch")}
    assert (needs.features, needs.min_frames) == (frozenset({"keys"}), 2)
    assert needs.frozen_target
    assert not needs.batch_wide


@pytest.mark.parametrize(
    ("key_width", "features", "keys"),
    [(6, "auto", True), (6, "keys", True), (6, "tokens", False), (None, "auto", False)],
)
def test_what_is_compared(key_width, features, keys):
    loss = FeatureSimilarityLoss(dims()._replace(key_width=key_width), features=features)
    assert loss.needs.features == frozenset({"keys"} if keys else ())
    slots, pred = random(1, 2, 3, 8), random(2, 12, 12)
    a, b = random(1, 2, 12, 6, seed=1), random(1, 2, 12, 6, seed=2)
    expected = loss_of(a if keys else b, pred.unflatten(0, (1, 2)))[0]
    torch.testing.assert_close(loss(seen(slots, a, pred, tokens=b))[0], expected)


# --- numbers ---------------------------------------------------------------------------------

KEYS = 0.3 + wave((1, 3, 3, 3), 0, 0.7)
LOGITS = wave((1, 3, 3, 3), 0.5, 1.1)


def test_the_floor_is_the_mean_entropy_of_the_targets():
    logs = loss_of(KEYS, LOGITS, temperature=0.25)[1]
    first = (0.920563, 0.927332, 0.918671, 0.925519)  # of the four rows with two entries, of six
    entropy = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in first]
    assert logs["similarity_floor"].item() == pytest.approx(sum(entropy) / 6, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.075, 0.25, 2.0]),
    threshold=st.sampled_from([-1.0, 0.0, 0.4]),
)
def test_equals_the_definition_term_by_term(seed, temperature, threshold):
    keys, logits = random(2, 3, 4, 3, seed=seed).double(), random(2, 3, 4, 4, seed=seed + 1)
    values = []
    for b, t, p in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(4)).tolist():
        cosine = [float(unit(keys[b, t, p]) @ unit(keys[b, t + 1, q])) for q in range(4)]
        share = [math.exp(c / temperature) if c >= threshold else 0.0 for c in cosine]
        share = [s / sum(share) for s in share] if sum(share) else [0.25] * 4
        chances = logits[b, t, p].double().log_softmax(0).tolist()
        values.append(-sum(s * c for s, c in zip(share, chances, strict=True)))
    value = loss_of(keys, logits.double(), temperature=temperature, threshold=threshold)[0]
    assert value.item() == pytest.approx(sum(values) / len(values), abs=1e-9)


def test_threshold_is_compared_before_the_temperature_and_keeps_its_own_value():
    angle = torch.tensor([0.5, 0.499, 0.0], dtype=torch.float64)
    later = torch.stack([angle, (1 - angle**2).sqrt()], dim=-1)[None]
    earlier = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    assert similarity_target(earlier, later, 0.1, 0.5).tolist() == [[[1.0, 0.0, 0.0]]]
    at_zero = similarity_target(earlier, later, 0.1, 0.0)  # what is exactly 0 stays
    assert at_zero[0, 0, 2].item() == pytest.approx(at_zero[0, 0, 0].item() * math.exp(-5))


def test_a_patch_like_none_may_go_anywhere():
    later = unit(random(1, 5, 3).abs())
    target = similarity_target(-later, later, 0.1, 0.0)
    assert torch.equal(target, torch.full((1, 5, 5), 0.2))


# --- laws ------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.02, 2), threshold=st.floats(-1, 0.9))
def test_laws_of_the_target(seed, temperature, threshold):
    frame, later = (unit(random(2, 7, 5, seed=seed + i).double()) for i in range(2))
    target = similarity_target(frame, later, temperature, threshold)
    torch.testing.assert_close(target.sum(-1), torch.ones(2, 7, dtype=torch.float64))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    moved = similarity_target(frame, later[:, order], temperature, threshold)
    torch.testing.assert_close(moved, target[..., order])
    same = similarity_target(frame, frame, temperature, threshold)
    torch.testing.assert_close(same.diagonal(dim1=1, dim2=2), same.amax(-1))
    assert (same.argmax(-1) == torch.arange(7)).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_slots_and_clips_and_length_of_features_do_not_matter(seed):
    generator = torch.Generator().manual_seed(seed)
    slots, keys = random(2, 3, 4, 8, seed=seed).double(), random(2, 3, 12, 6, seed=seed).double()
    loss = FeatureSimilarityLoss(WITH_KEYS)
    decoder = MLPDecoder(WITH_KEYS, loss.needs.decode, 8).double()
    value = loss(seen(slots, keys, decoder=decoder))[0]
    mixed = slots[:, :, torch.randperm(4, generator=generator)].flip(0)
    longer = keys * (0.1 + torch.rand(2, 3, 12, 1, generator=generator).double())
    torch.testing.assert_close(loss(seen(mixed, longer.flip(0), decoder=decoder))[0], value)


def test_no_prediction_is_better_than_the_target_itself():
    keys = random(2, 3, 5, 4)
    frames = unit(keys).unbind(1)
    pairs = [similarity_target(frames[t], frames[t + 1], 0.25, 0.0) for t in range(2)]
    best = torch.stack([*pairs, torch.ones(2, 5, 5)], dim=1).clamp_min(1e-30).log()
    value, logs = loss_of(keys, best, temperature=0.25)
    assert value.item() == pytest.approx(logs["similarity_floor"].item(), abs=1e-6)
    worse = loss_of(keys, best + 0.3 * random(2, 3, 5, 5), temperature=0.25)[0]
    assert worse > value + 1e-3
    guess = loss_of(keys, torch.zeros(2, 3, 5, 5), temperature=0.25)[0]
    assert guess.item() == pytest.approx(math.log(5), abs=1e-6)


def test_the_last_frame_is_seen_but_predicts_nothing():
    keys, logits = random(2, 3, 5, 4), random(2, 3, 5, 5, seed=1)
    value = loss_of(keys, logits)[0]
    other = logits.clone()
    other[:, -1] += random(2, 5, 5, seed=2)
    assert torch.equal(loss_of(keys, other)[0], value)
    moved = keys.clone()
    moved[:, -1] = moved[:, -1].flip(1)
    assert loss_of(moved, logits)[0] != value


# --- gradients -------------------------------------------------------------------------------


def test_gradient_of_the_logits():
    keys, logits = random(2, 3, 5, 4), random(2, 3, 5, 5, seed=1).requires_grad_()
    loss_of(keys, logits, temperature=0.25)[0].backward()
    frames = unit(keys).unbind(1)
    for t in range(2):
        target = similarity_target(frames[t], frames[t + 1], 0.25, 0.0)
        expected = (logits[:, t].detach().softmax(-1) - target) / (2 * 2 * 5)
        torch.testing.assert_close(logits.grad[:, t], expected)
    assert torch.equal(logits.grad[:, 2], torch.zeros(2, 5, 5))


@pytest.mark.parametrize("features", ["keys", "tokens"])
def test_gradient_reaches_slots_and_nothing_the_backbone_said(features):
    slots = random(2, 3, 3, 8).requires_grad_()
    keys, tokens = (random(2, 3, 12, 6, seed=i).requires_grad_() for i in (1, 2))
    loss = FeatureSimilarityLoss(WITH_KEYS, features=features)
    decoder = MLPDecoder(WITH_KEYS, loss.needs.decode, 8)
    value, logs = loss(seen(slots, keys, tokens=tokens, decoder=decoder))
    value.backward()
    assert (keys.grad, tokens.grad) == (None, None)
    reached = slots.grad.abs().amax(dim=(0, 2, 3))
    assert (reached[:2] > 0).all()
    assert reached[2] == 0
    assert not logs["similarity_floor"].requires_grad


def test_exact_under_autocast_and_with_half_precision_predictions():
    keys, logits = random(1, 2, 5, 4), random(1, 2, 5, 5, seed=1)
    value = loss_of(keys, logits)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss_of(keys, logits)[0], value)
    half = loss_of(keys, logits.bfloat16())[0]
    assert half.dtype == torch.float32
    assert torch.equal(half, loss_of(keys, logits.bfloat16().float())[0])


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ({"temperature": 0.0}, f"type {NAMED}.temperature=0.075"),
        ({"threshold": 1.0}, f"type {NAMED}.threshold=0"),
        ({"threshold": -1.5}, f"type {NAMED}.threshold=0"),
        ({"features": "key"}, "did you mean: keys"),
    ],
)
def test_refuses_numbers_that_mean_nothing(arguments, answer):
    with pytest.raises(ConfigError, match=answer):
        FeatureSimilarityLoss(WITH_KEYS, **arguments)


def test_refuses_one_frame_and_another_grid():
    with pytest.raises(ValueError, match=r"T >= 2, got T = 1; type clip_length=2"):
        loss_of(random(1, 1, 5, 4), random(1, 1, 5, 5))
    with pytest.raises(ValueError, match=r"of shape \(2, 12, 12\) .* got \(2, 6, 12\)"):
        FeatureSimilarityLoss(WITH_KEYS)(
            seen(random(1, 2, 3, 8), random(1, 2, 12, 6), random(2, 6, 12))
        )


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["losses=videosaur"], rf"type backbone=tiny_vit or .* {NAMED}.features=tokens"),
        (["losses=feature_similarity", "clip_length=1"], "type clip_length=2"),
        (
            ["losses=feature_similarity", "backbone=small_cnn", "backbone.strides=[2,2,1,1]"],
            "Type backbone=patches",
        ),
    ],
)
def test_a_run_that_cannot_work_is_refused_with_what_to_type(typed, answer):
    with pytest.raises(ConfigError, match=answer):
        build_objective(running.composed("train", *typed))


def test_composes_with_other_losses():
    cfg = running.composed(
        "train", "losses=[feature_rec,feature_similarity,slot_contrast]", "image_size=16"
    )
    model = build_objective(cfg).model
    assert model.want == frozenset()
    assert model.decoder.readout.widths == {"features": 48, "similarity": 16}
