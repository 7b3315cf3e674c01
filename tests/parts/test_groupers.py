from pathlib import Path

import numpy as np
import pytest
import torch
from closed_forms import (
    GivenNoise,
    assert_all_trained,
    built,
    dims,
    group,
    random,
    reading,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_map

from slotreel.errors import ConfigError
from slotreel.groupers.cross_attention import CrossAttention
from slotreel.groupers.slot_attention import SlotAttention
from slotreel.initializers.gaussian import GaussianInit
from slotreel.noise import Noise
from slotreel.types import FrameFeatures

GOLDEN = Path(__file__).parents[1] / "data" / "slot_attention_golden.npz"
OPTIONS = ["slot_attention", "cross_attention"]


def test_gradient_of_the_last_round_changes_no_number():
    query, tokens = random(2, 3, 8), random(2, 12, 8, seed=1)
    out = {}
    for gradient in ("full", "last"):
        torch.manual_seed(0)
        out[gradient] = group(SlotAttention(dims(), gradient=gradient), query, tokens)
    torch.testing.assert_close(out["last"].slots, out["full"].slots)
    torch.testing.assert_close(out["last"].masks, out["full"].masks)


def golden(case):
    stored = np.load(GOLDEN)
    return {
        k.split("/", 1)[1]: torch.from_numpy(stored[k])
        for k in stored.files
        if k.startswith(f"{case}/")
    }


def load(part, case, where):
    part.load_state_dict({k.split("/")[1]: v for k, v in case.items() if k.startswith(f"{where}/")})
    return part


def stored_query(case, num_slots, groups=None):
    initializer = GaussianInit(dims(num_slots=num_slots), start="xavier", groups=groups).double()
    load(initializer, case, "init")
    features = FrameFeatures(case["tokens"][:, None], (1, case["tokens"].shape[1]))
    return initializer(case["tokens"], features, {}, 2, GivenNoise(case["noise"]))


def dinosavi(num_slots, rounds):
    return reading(
        SlotAttention(dims(num_slots=num_slots), num_iters_first=rounds, hidden_dim=10,
                      gru_state="raw", eps=1e-6, eps_place="divisor"),
        6,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "rounds"), [("it1", 1), ("it3", 3), ("carried", 1)])
def test_dinosavi_variant_equals_stored_values(name, rounds):
    case = golden("dinosavi")
    grouper = load(dinosavi(3, rounds), case, "grouper")
    query = case["carried"] if name == "carried" else stored_query(case, 3)
    out = group(grouper, query, case["tokens"])
    torch.testing.assert_close(out.slots, case[f"slots_{name}"], atol=1e-9, rtol=0)
    torch.testing.assert_close(out.masks, case[f"masks_{name}"], atol=1e-9, rtol=0)


def test_grouped_start_equals_stored_values():
    case = golden("grouped")
    grouper = load(dinosavi(5, 2), case, "grouper")
    out = group(grouper, stored_query(case, 5, [2, 3]), case["tokens"])
    torch.testing.assert_close(out.slots, case["slots"], atol=1e-9, rtol=0)
    torch.testing.assert_close(out.masks, case["masks"], atol=1e-9, rtol=0)


def test_steve_variant_equals_stored_values():
    case = golden("steve")
    grouper = SlotAttention(
        dims(), num_iters_first=2, hidden_dim=12, gru_state="raw", skip_last_mlp=True
    )
    grouper = load(reading(grouper, 6), case, "grouper")
    out = group(grouper, stored_query(case, 3), case["tokens"])
    torch.testing.assert_close(out.slots, case["slots"], atol=1e-9, rtol=0)
    torch.testing.assert_close(out.masks, case["masks"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds_with_its_yaml_and_trains_all_it_has(option):
    grouper = built("grouper", option, dims=dims())
    assert (grouper.num_queries, grouper.num_slots, grouper.window) == (3, 3, None)
    out = group(grouper, random(2, 3, 8), random(2, 12, 8, seed=1))
    assert out.slots.shape == (2, 3, 8)
    assert out.masks.shape == (2, 3, 12)
    assert_all_trained(grouper, out.slots.square().sum() + out.masks.square().sum())


@pytest.mark.parametrize(
    "arguments",
    [
        {"hidden_dim": 0},
        {"gru": False},
        {"gru": False, "gru_state": "raw", "hidden_dim": 0},
        {"kvq_dim": 5},
        {"gradient": "last"},
        {"eps_place": "divisor"},
        {"eps_place": "clamp"},
        {"skip_last_mlp": True},
        {"skip_last_mlp": True, "num_iters_first": 1, "num_iters": 1},
        {"num_iters_first": None, "num_iters": 1},
    ],
)
def test_variants_train_all_they_have(arguments):
    grouper = SlotAttention(dims(), **arguments)
    out = group(grouper, random(2, 3, 8), random(2, 12, 8, seed=1))
    assert_all_trained(grouper, out.slots.square().sum() + out.masks.square().sum())


def test_mlp_gets_no_gradient_where_it_never_runs():
    one_frame = dims(clip_length=1)
    skipping = SlotAttention(one_frame, num_iters_first=1, num_iters=2, skip_last_mlp=True)
    assert skipping.without_gradient() == {
        f"{module}.{kind}"
        for module in ("norm_mlp", "mlp.0", "mlp.2")
        for kind in ("weight", "bias")
    }
    assert not SlotAttention(dims(), 2, 1, skip_last_mlp=True).without_gradient()


def test_first_frame_has_its_own_number_of_rounds():
    grouper = SlotAttention(dims(), num_iters=1, num_iters_first=3)
    query, tokens = random(2, 3, 8), random(2, 12, 8, seed=1)
    first, later = group(grouper, query, tokens), group(grouper, query, tokens, first=False)
    again = group(SlotAttentionLike(grouper, 3), query, tokens, first=False)
    assert not torch.allclose(first.slots, later.slots)
    torch.testing.assert_close(first.slots, again.slots)


def SlotAttentionLike(grouper, rounds):  # noqa: N802
    twin = SlotAttention(dims(), num_iters=rounds, num_iters_first=None)
    twin.load_state_dict(grouper.state_dict())
    return twin


def test_gradient_last_passes_through_one_round_only():
    query, tokens = random(1, 3, 8).double(), random(1, 12, 8, seed=1).double()
    grouper = SlotAttention(dims(), num_iters_first=3, gradient="last").double()
    start = query.clone().requires_grad_()
    weights = random(1, 3, 8, seed=2).double()
    (group(grouper, start, tokens).slots * weights).sum().backward()

    before = SlotAttention(dims(), num_iters_first=2).double()
    last = SlotAttention(dims(), num_iters_first=1).double()
    before.load_state_dict(grouper.state_dict())
    last.load_state_dict(grouper.state_dict())
    middle = group(before, query, tokens).slots.detach().requires_grad_()
    (group(last, middle, tokens).slots * weights).sum().backward()
    torch.testing.assert_close(start.grad, middle.grad)


@pytest.mark.parametrize("place", ["add", "divisor", "clamp"])
def test_eps_keeps_an_abandoned_slot_finite(place):
    grouper = SlotAttention(dims(), eps_place=place)
    shares = grouper._shares(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
    assert shares.isfinite().all()
    expected = [[0.5, 0.5], [0.5, 0.5] if place == "add" else [0.0, 0.0]]
    torch.testing.assert_close(shares[0], torch.tensor(expected))


def test_eps_places_by_hand():
    masks = torch.tensor([[[0.2, 0.6]]])
    for place, expected in {
        "add": [0.3 / 1.0, 0.7 / 1.0],
        "divisor": [0.2 / 0.9, 0.6 / 0.9],
        "clamp": [0.2 / 0.8, 0.6 / 0.8],
    }.items():
        shares = SlotAttention(dims(), eps=0.1, eps_place=place)._shares(masks)
        torch.testing.assert_close(shares.flatten(), torch.tensor(expected))


def test_update_without_gru_or_mlp_by_hand():
    grouper = SlotAttention(dims(slot=2, num_slots=2), 1, 1, hidden_dim=0, gru=False)
    with torch.no_grad():
        for layer in (grouper.to_key, grouper.to_value, grouper.to_query):
            layer.weight.copy_(torch.eye(2))
    query = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    out = group(grouper, query, query)
    own = torch.tensor(2 * 2 / 2**0.5).sigmoid()  # logits +-2 / sqrt(2) for two slots
    torch.testing.assert_close(out.masks[0, 0, 0], own, atol=1e-4, rtol=0)
    torch.testing.assert_close(out.slots, query * (1 + 2 * own - 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), num_slots=st.integers(1, 5), num_tokens=st.integers(1, 9))
def test_sets_are_treated_as_sets(option, seed, num_slots, num_tokens):
    kind = {"slot_attention": SlotAttention, "cross_attention": CrossAttention}[option]
    grouper = kind(dims(num_slots=num_slots)).double()
    query = random(3, num_slots, 8, seed=seed).double()
    tokens = random(3, num_tokens, 8, seed=seed + 1).double()
    generator = torch.Generator().manual_seed(seed)
    slot_order = torch.randperm(num_slots, generator=generator)
    token_order = torch.randperm(num_tokens, generator=generator)
    clip_order = torch.randperm(3, generator=generator)
    out = group(grouper, query, tokens)
    torch.testing.assert_close(out.masks.sum(dim=1), torch.ones(3, num_tokens).double())
    moved = group(grouper, query[:, slot_order], tokens)
    torch.testing.assert_close(moved.slots, out.slots[:, slot_order])
    torch.testing.assert_close(moved.masks, out.masks[:, slot_order])
    moved = group(grouper, query, tokens[:, token_order])
    torch.testing.assert_close(moved.slots, out.slots)
    torch.testing.assert_close(moved.masks, out.masks[:, :, token_order])
    moved = group(grouper, query[clip_order], tokens[clip_order])
    torch.testing.assert_close(moved.slots, out.slots[clip_order])


@pytest.mark.parametrize("option", OPTIONS)
def test_frames_are_prepared_alike_together_and_alone(option):
    grouper = built("grouper", option, dims=dims())
    tokens, query = random(2, 4, 12, 8), random(2, 3, 8, seed=1)
    memory, _ = grouper.prepare(tokens, FrameFeatures(tokens, (3, 4)), None)
    for t in range(4):
        out = grouper(query, tree_map(lambda x, t=t: x[:, t], memory), first=False, noise=Noise(0))
        alone = group(grouper, query, tokens[:, t], first=False)
        torch.testing.assert_close(out.slots, alone.slots)


@pytest.mark.parametrize("option", OPTIONS)
def test_bf16_autocast_keeps_masks_in_single_precision(option):
    grouper = built("grouper", option, dims=dims())
    query, tokens = random(2, 3, 8), random(2, 12, 8, seed=1)
    exact = group(grouper, query, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        out = group(grouper, query, tokens)
    assert out.masks.dtype == torch.float32
    torch.testing.assert_close(out.masks.sum(dim=1), torch.ones(2, 12))
    torch.testing.assert_close(out.slots.float(), exact.slots, atol=0.1, rtol=0.1)


def test_cross_attention_reports_its_raw_map():
    grouper = CrossAttention(dims())
    out = group(grouper, random(2, 3, 8), random(2, 12, 8, seed=1))
    level = out.levels["attention"]
    torch.testing.assert_close(level.masks.sum(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(level.logits.softmax(dim=1), out.masks)
    assert torch.equal(level.slots, out.slots)


def test_cross_attention_equals_its_equations():
    grouper = CrossAttention(dims(), num_layers=1, num_heads=2, self_attention_scale="none")
    slots, tokens = random(2, 3, 8), random(2, 12, 8, seed=1)
    out = group(grouper, slots, tokens)
    layer = grouper.layers[0]

    def attention(part, x, context, scale):
        q, k, v = (
            (c @ w.T + b).unflatten(-1, (2, 4)).transpose(1, 2)
            for c, w, b in zip((x, context, context), part.qkv.weight.chunk(3),
                               part.qkv.bias.chunk(3), strict=True)
        )  # fmt: skip
        mixed = (q @ k.mT * scale).softmax(-1) @ v
        return part.out(mixed.transpose(1, 2).flatten(2))

    normed = layer.norm_self(slots)
    slots = slots + attention(layer.self_attention, normed, normed, 1.0)
    context = grouper.norm_tokens(tokens)
    slots = slots + attention(layer.cross_attention, layer.norm_cross(slots), context, 0.5)
    slots = slots + layer.mlp(layer.norm_mlp(slots))
    torch.testing.assert_close(out.slots, slots)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"num_iters": 0}, "num_iters=2"),
        ({"num_iters_first": 0}, "num_iters_first=3"),
        ({"gru_state": "norm"}, "did you mean: normed"),
        ({"eps_place": "top"}, "choose one of"),
        ({"gradient": "lst"}, "did you mean: last"),
        ({"eps": 0.0}, "above 0"),
        ({"gru": False, "kvq_dim": 4}, "kvq_dim=8"),
        ({"gradient": "last", "skip_last_mlp": True}, "gradient=full"),
        ({"hidden_dim": -1}, "hidden_dim=32"),
    ],
)
def test_slot_attention_refuses(arguments, advice):
    with pytest.raises(ConfigError, match=advice):
        SlotAttention(dims(), **arguments)


def test_cross_attention_refuses():
    with pytest.raises(ConfigError, match="num_heads=2"):
        CrossAttention(dims(), num_heads=3)
    with pytest.raises(ConfigError, match="num_layers=2"):
        CrossAttention(dims(), num_layers=0)
    with pytest.raises(ConfigError, match="did you mean: standard"):
        CrossAttention(dims(), self_attention_scale="standart")
