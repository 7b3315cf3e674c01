import math

import pytest
import torch
import torch.nn.functional as F
from closed_forms import dims, random, wave

from slotreel.decoders.slot_mixer import SlotMixerDecoder
from slotreel.errors import ConfigError
from slotreel.groupers.slot_attention import SlotAttention
from slotreel.initializers.gaussian import GaussianInit
from slotreel.layers.transformer import TransformerBlock
from slotreel.predictors.transformer import TransformerPredictor
from slotreel.projectors.mlp2 import MLP2
from slotreel.types import Target

TARGETS = {"features": Target(6, "patch"), "colours": Target(3, "patch")}


def mixer(shape=None, **arguments):
    arguments = {"hidden_dim": 16, "position_std": 1.0, **arguments}
    return SlotMixerDecoder(shape or dims(), TARGETS, **arguments).double()


def layer_norm(module, x):
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * module.weight + module.bias


def by_the_equations(decoder, slots, num_heads, factor, temperature):
    """Every place of every clip by itself, from the equations: predictions, masks."""
    clips, width = slots.shape[0], slots.shape[2]
    memory = layer_norm(decoder.norm_memory, slots)
    z = decoder.position.expand(clips, -1, -1)
    for block in decoder.allocator:
        (wq, wk, wv), (bq, bk, bv) = (p.chunk(3) for p in (
            block.attention.qkv.weight, block.attention.qkv.bias))  # fmt: skip
        query = layer_norm(block.norm_attention, z) @ wq.T + bq
        key, value = memory @ wk.T + bk, memory @ wv.T + bv
        heads = []
        for part in torch.arange(width).chunk(num_heads):
            logits = query[..., part] @ key[..., part].mT * factor(len(part))
            heads.append(logits.softmax(-1) @ value[..., part])
        z = z + block.attention.out(torch.cat(heads, -1))
        z = z + block.mlp[2](block.mlp[0](layer_norm(block.norm_mlp, z)).relu())
    query = layer_norm(decoder.norm_query, z) @ decoder.to_query.weight.T
    key = layer_norm(decoder.norm_key, slots) @ decoder.to_key.weight.T
    shares = (query @ key.mT / temperature).softmax(-1)
    x = decoder.first(shares @ slots + decoder.position).relu()
    for layer in decoder.others[::2]:
        x = layer(x).relu()
    return decoder.output(x), shares.mT


@pytest.mark.parametrize(
    ("arguments", "factor", "temperature"),
    [
        ({}, lambda d: d**-0.5, math.sqrt(8)),
        ({"attention_scale": "inverse", "num_heads": 2}, lambda d: d**0.5, math.sqrt(8)),
        ({"num_blocks": 1, "num_layers": 1, "temperature": 0.3}, lambda d: d**-0.5, 0.3),
        ({"num_blocks": 3, "num_layers": 3, "attention_scale": "none"}, lambda d: 1, math.sqrt(8)),
    ],
)
def test_less_work_gives_the_numbers_and_gradients_of_the_equations(arguments, factor, temperature):
    decoder = mixer(**arguments)
    for p in decoder.parameters():  # biases and norms away from 0 and 1
        p.data += 0.1 * random(*p.shape, seed=p.numel())
    weights, results = random(2, 12, 9, seed=1).double(), []
    for form in ("equations", "ours"):
        slots = random(2, 3, 8).double().requires_grad_()
        decoder.zero_grad()
        if form == "equations":
            heads = arguments.get("num_heads", 4)
            pred, masks = by_the_equations(decoder, slots, heads, factor, temperature)
        else:
            out = decoder(slots, (3, 4))
            pred, masks = torch.cat([out.pred["features"], out.pred["colours"]], -1), out.masks
        ((pred * weights).sum() + masks.square().sum()).backward()
        results.append([pred, masks, slots.grad, *(p.grad.clone() for p in decoder.parameters())])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-9)
    assert results[0][1].std() > 1e-3, "masks that are all alike would prove nothing"


def test_a_query_shared_by_all_clips_reads_each_clips_own_memory():
    block, x = TransformerBlock(4, 2, 5, "inverse").double(), wave((1, 3, 4), 0, 1)
    memory = random(2, 3, 4).double()
    both = block(x, memory)
    assert both.shape == (2, 3, 4)
    for clip in range(2):
        torch.testing.assert_close(both[clip : clip + 1], block(x, memory[clip : clip + 1]))


@pytest.mark.parametrize(
    ("shape", "channels", "num_blocks", "num_layers", "own", "whole"),
    [
        (dims(128, 11, (28, 28), (224, 224), 768), 784, 2, 4, 4_614_928, 6_341_648),
        (dims(64, 7, (37, 37), (518, 518), 768), 768 + 1369, 3, 3, 4_602_329, 5_971_033),
    ],
    ids=["MOVi-C", "YouTube-VIS with DINOv2"],
)
def test_as_many_parameters_as_the_published_models(
    shape, channels, num_blocks, num_layers, own, whole
):
    targets = {"all": Target(channels, "patch")}
    decoder = SlotMixerDecoder(shape, targets, num_blocks, num_layers=num_layers)
    others = [
        GaussianInit(shape), MLP2(shape), SlotAttention(shape, hidden_dim=0),
        TransformerPredictor(shape),
    ]  # fmt: skip
    count = sum(p.numel() for p in decoder.parameters())
    assert count == own
    assert count + sum(p.numel() for part in others for p in part.parameters()) == whole


def test_starts_as_published():
    decoder = SlotMixerDecoder(dims(slot=64, grid=(16, 16)), TARGETS, hidden_dim=128)
    for linear in (decoder.to_query, decoder.to_key, decoder.output):
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert 0.95 * bound < linear.weight.abs().max() <= bound
    for linear in (decoder.first, *decoder.others[::2], decoder.output):
        assert not linear.bias.any()
    assert decoder.position.std().item() == pytest.approx(64**-0.5, rel=0.03)
    assert mixer(temperature=math.sqrt(8)).temperature == mixer().temperature


def test_an_offset_of_all_keys_moves_nothing():
    decoder, slots = mixer(), random(2, 3, 8).double()
    before = decoder(slots, (3, 4))
    decoder.norm_key.bias.data += 3.0
    torch.testing.assert_close(decoder(slots, (3, 4)).masks, before.masks)


def test_the_renderer_works_once_per_patch_and_the_first_query_once_per_batch():
    decoder, seen = mixer(), {}
    watched = {
        "first query": decoder.allocator[0].norm_attention, "second": decoder.allocator[1].norm_mlp,
        "keys": decoder.to_key, "renderer": decoder.others, "output": decoder.output,
    }  # fmt: skip
    for name, module in watched.items():
        module.register_forward_hook(
            lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0].shape)
        )
    decoder(random(2, 3, 8).double(), (3, 4))
    assert seen == {
        "first query": [(1, 12, 8)], "second": [(2, 12, 8)], "keys": [(2, 3, 8)],
        "renderer": [(2, 12, 16)], "output": [(2, 12, 16)],
    }  # fmt: skip


def test_each_slot_alone_is_what_the_decoder_makes_of_it_alone():
    decoder, slots = mixer(), random(2, 3, 8).double()
    out = decoder(slots, (3, 4), per_slot=True)
    for name, own in out.per_slot.items():
        alone = [decoder(slots[:, k : k + 1], (3, 4)).pred[name] for k in range(3)]
        torch.testing.assert_close(own, torch.stack(alone, 1))
        torch.testing.assert_close(out.pred[name], decoder(slots, (3, 4)).pred[name])


def test_resizes_its_positions_to_another_grid():
    decoder, slots = mixer(), random(2, 3, 8).double()
    table = decoder.position.detach().view(1, 3, 4, 8).permute(0, 3, 1, 2)
    table = F.interpolate(table.float(), size=(6, 5), mode="bicubic", antialias=True).double()
    twin = mixer(dims(grid=(6, 5)))
    table = table.permute(0, 2, 3, 1).reshape(1, 30, 8)
    twin.load_state_dict({**decoder.state_dict(), "position": table})
    out, expected = decoder(slots, (6, 5)), twin(slots, (6, 5))
    assert out.grid == (6, 5)
    torch.testing.assert_close(out.masks, expected.masks)
    torch.testing.assert_close(out.pred, expected.pred)


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        ({"num_blocks": 0}, "type decoder.num_blocks=2"),
        ({"hidden_dim": 0}, "type decoder.hidden_dim=1024"),
        ({"num_layers": 0}, "type decoder.num_layers=4"),
        ({"num_heads": 3}, r"type decoder.num_heads=2 \(possible: 1, 2, 4, 8\)"),
        ({"temperature": 0.0}, "type decoder.temperature=2.83"),
        ({"attention_scale": "inverted"}, "inverse"),
    ],
)
def test_refuses_with_what_to_type(arguments, typed):
    with pytest.raises(ConfigError, match=typed):
        SlotMixerDecoder(dims(), TARGETS, **arguments)


def test_refuses_pixels_that_do_not_divide():
    with pytest.raises(ConfigError, match=r"decoder=slot_mixer .* image_size=\[12,16\]"):
        SlotMixerDecoder(dims(image_size=(13, 17)), {"pixels": Target(3, "pixel")})
