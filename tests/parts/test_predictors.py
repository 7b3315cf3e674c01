import pytest
import torch
from closed_forms import assert_all_trained, built, dims, random
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.errors import ConfigError
from slotreel.layers.transformer import Attention
from slotreel.predictors.carry import Carry
from slotreel.predictors.gru import GRUPredictor
from slotreel.predictors.reinit import Reinit
from slotreel.predictors.transformer import TransformerPredictor

OPTIONS = ["transformer", "gru", "carry", "reinit"]
TOKENS = torch.zeros(1)  # no predictor here looks at them


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds_with_its_yaml_and_trains_all_it_has(option):
    predictor = built("predictor", option, dims=dims())
    assert predictor.reinit == (option == "reinit")
    if option in ("carry", "reinit"):
        assert not list(predictor.parameters())
        return
    slots, state, loss = random(2, 3, 8), None, torch.zeros(())
    for _ in range(2):
        query, state = predictor(slots, state, TOKENS)
        assert query.shape == (2, 3, 8)
        loss = loss + query.square().sum()
    assert_all_trained(predictor, loss)


def test_one_step_already_trains_the_gru():
    predictor = GRUPredictor(dims())
    predictor(random(2, 3, 8), None, TOKENS)[0].square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in predictor.parameters())


def test_gru_hidden_state_starts_as_the_slot_and_is_the_query():
    predictor = GRUPredictor(dims())
    slots, later = random(2, 3, 8), random(2, 3, 8, seed=1)
    query, state = predictor(slots, None, TOKENS)
    assert query is state
    cell = torch.nn.GRUCell(8, 8)
    cell.load_state_dict(predictor.cell.state_dict())
    first = cell(slots.flatten(0, 1), slots.flatten(0, 1))
    torch.testing.assert_close(query.flatten(0, 1), first)
    second, _ = predictor(later, state, TOKENS)
    torch.testing.assert_close(second.flatten(0, 1), cell(later.flatten(0, 1), first))


def test_gru_stays_in_single_precision_under_autocast():
    predictor = GRUPredictor(dims())
    with torch.autocast("cpu", torch.bfloat16):
        query, _ = predictor(random(2, 3, 8).bfloat16(), None, TOKENS)
    assert query.dtype == torch.float32


def test_carry_and_reinit():
    slots = random(2, 3, 8)
    query, state = Carry(dims())(slots, None, TOKENS)
    assert query is slots
    assert state is None
    with pytest.raises(RuntimeError, match="ask the initializer"):
        Reinit(dims())(slots, None, TOKENS)


@pytest.mark.parametrize("option", ["transformer", "gru", "carry"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), num_slots=st.integers(1, 6))
def test_slots_are_a_set_and_clips_are_apart(option, seed, num_slots):
    kind = {"transformer": TransformerPredictor, "gru": GRUPredictor, "carry": Carry}[option]
    predictor = kind(dims(num_slots=num_slots)).double()
    slots = random(3, num_slots, 8, seed=seed).double()
    state = random(3, num_slots, 8, seed=seed + 1).double()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_slots, generator=generator)
    clips = torch.randperm(3, generator=generator)
    query, _ = predictor(slots, state, TOKENS)
    moved, _ = predictor(slots[:, order], state[:, order], TOKENS)
    torch.testing.assert_close(moved, query[:, order])
    moved, _ = predictor(slots[clips], state[clips], TOKENS)
    torch.testing.assert_close(moved, query[clips])


def test_scales_are_what_their_names_say():
    logits = {}
    for scale in ("standard", "none", "inverse"):
        torch.manual_seed(0)
        attention = Attention(8, 2, scale)
        key, value = attention.memory(random(1, 5, 8))
        logits[scale] = attention.attend(random(1, 3, 8, seed=1), key, value)[1]
    torch.testing.assert_close(logits["standard"] * 2, logits["none"])
    torch.testing.assert_close(logits["none"] * 2, logits["inverse"])


def test_attention_to_itself_is_cross_attention_with_itself_as_memory():
    attention, x = Attention(8, 2, "inverse"), random(2, 3, 8)
    out, _ = attention.attend(x, *attention.memory(x))
    torch.testing.assert_close(attention(x), out)


def test_attention_starts_xavier_per_matrix():
    torch.manual_seed(0)
    attention = Attention(256, 4)
    for weight in (*attention.qkv.weight.chunk(3), attention.out.weight):
        assert 0.99 * (6 / 512) ** 0.5 < weight.abs().max() <= (6 / 512) ** 0.5
    assert not attention.qkv.bias.any()
    assert not attention.out.bias.any()


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"num_heads": 3}, r"num_heads=2 \(possible: 1, 2, 4, 8\)"),
        ({"num_layers": 0}, "num_layers=1"),
        ({"hidden_dim": 0}, "hidden_dim=32"),
        ({"attention_scale": "inverted"}, "did you mean: inverse"),
    ],
)
def test_transformer_refuses(arguments, advice):
    with pytest.raises(ConfigError, match=advice):
        TransformerPredictor(dims(), **arguments)
