import pytest
import torch
import torch.nn.functional as F
from closed_forms import assert_all_trained, built, dims, random
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.decoders.mlp import MLPDecoder
from slotreel.decoders.slot_mixer import SlotMixerDecoder
from slotreel.decoders.spatial_broadcast import SpatialBroadcastDecoder
from slotreel.errors import ConfigError
from slotreel.layers.mixing import MixtureReadout
from slotreel.types import Target

FEATURES, PIXELS = Target(6, "patch"), Target(3, "pixel")
BOTH = {"features": FEATURES, "pixels": PIXELS}


def mlp_decoder(targets=None, **arguments):
    return MLPDecoder(dims(), targets or {"features": FEATURES}, 16, **arguments).double()


def broadcast(targets=None, **arguments):
    return SpatialBroadcastDecoder(
        dims(), targets or {"pixels": PIXELS}, [3, 4], channels=5, kernel_size=3, **arguments
    ).double()


def slot_mixer(targets=BOTH):
    return SlotMixerDecoder(dims(), targets, hidden_dim=16, position_std=1.0).double()


DECODERS = {
    "mlp": mlp_decoder,
    "mlp with pixels": lambda: mlp_decoder(BOTH),
    "slot mixer": slot_mixer,
    "broadcast pixels": broadcast,
    "broadcast patches": lambda: broadcast({"features": FEATURES}),
}
each_decoder = pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)


def naive(decoder, slots):
    """Every slot at every patch through every layer, then mixed."""
    x = slots.unsqueeze(2) + decoder.position.unsqueeze(1)  # (B, K, N, D)
    x = decoder.first(x).relu()
    if decoder.num_layers > 1:
        x = decoder.others(x).relu()
    *predictions, alpha = decoder.readout(x).split([*decoder.readout.widths.values(), 1], dim=-1)
    masks = alpha.softmax(dim=1)
    return {
        name: (masks * x).sum(1)
        for name, x in zip(decoder.readout.widths, predictions, strict=True)
    }, masks.squeeze(-1)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
@pytest.mark.parametrize("per_slot", [False, True])
def test_rewritten_mlp_equals_the_naive_form_with_its_gradients(num_layers, per_slot):
    decoder = mlp_decoder(BOTH, num_layers=num_layers)
    weights = random(2, 12, 6 + 48, seed=1).double()
    gradients = []
    for form in ("naive", "ours"):
        slots = random(2, 3, 8).double().requires_grad_()
        decoder.zero_grad()
        if form == "naive":
            pred, masks = naive(decoder, slots)
        else:
            out = decoder(slots, (3, 4), per_slot=per_slot)
            pred, masks = out.pred, out.masks
        joined = torch.cat([pred["features"], pred["pixels"]], dim=-1)
        ((joined * weights).sum() + masks.square().sum()).backward()
        gradients.append([joined.detach(), masks.detach(), slots.grad.clone()])
        gradients[-1] += [p.grad.clone() for p in decoder.parameters()]
    for old, new in zip(*gradients, strict=True):
        torch.testing.assert_close(new, old, atol=1e-10, rtol=1e-9)


def test_each_slots_own_prediction_mixes_to_the_whole():
    readout = MixtureReadout(5, {"a": 2, "b": 3}).double()
    pred, masks, own = readout.mix(random(2, 7, 4, 5).double(), per_slot=True)
    assert own["b"].shape == (2, 4, 7, 3)
    for name in pred:
        torch.testing.assert_close((own[name] * masks.unsqueeze(-1)).sum(dim=1), pred[name])


@pytest.mark.parametrize(
    ("option", "targets"),
    [("mlp", BOTH), ("slot_mixer", BOTH), ("spatial_broadcast", {"pixels": PIXELS}),
     ("spatial_broadcast", {"features": FEATURES})],
)  # fmt: skip
def test_option_builds_with_its_yaml_and_trains_all_it_has(option, targets):
    shape = dims(image_size=(16, 16), grid=(4, 4))
    decoder = built("decoder", option, dims=shape, targets=targets)
    out = decoder(random(2, 3, 8), (4, 4))
    n = out.grid[0] * out.grid[1]
    assert out.masks.shape == (2, 3, n)
    assert out.per_slot is None
    assert_all_trained(decoder, sum(x.square().sum() for x in out.pred.values()))


def test_mlp_predicts_the_pixels_of_a_patch():
    out = mlp_decoder(BOTH)(random(2, 3, 8).double(), (3, 4))
    assert out.pred["features"].shape == (2, 12, 6)
    assert out.pred["pixels"].shape == (2, 12, 3 * 4 * 4)
    assert out.grid == (3, 4)


@each_decoder
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), num_slots=st.integers(1, 5))
def test_slots_are_a_set_and_masks_a_partition(make, seed, num_slots):
    decoder = make()
    slots = random(3, num_slots, 8, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_slots, generator=generator)
    clips = torch.randperm(3, generator=generator)
    out, moved = decoder(slots, (3, 4)), decoder(slots[clips][:, order], (3, 4))
    torch.testing.assert_close(out.masks.sum(dim=1), torch.ones_like(out.masks[:, 0]))
    torch.testing.assert_close(moved.masks, out.masks[clips][:, order])
    for name, pred in out.pred.items():
        torch.testing.assert_close(moved.pred[name], pred[clips])


@each_decoder
@pytest.mark.parametrize("per_slot", [False, True])
def test_chosen_positions_equal_a_slice_of_all(make, per_slot):
    decoder, slots, positions = make(), random(2, 3, 8).double(), torch.tensor([7, 0, 3])
    every = decoder(slots, (3, 4), per_slot=per_slot)
    some = decoder(slots, (3, 4), positions=positions, per_slot=per_slot)
    assert some.grid == every.grid
    torch.testing.assert_close(some.masks, every.masks[:, :, positions])
    for name, pred in every.pred.items():
        torch.testing.assert_close(some.pred[name], pred[:, positions])
        if per_slot:
            own = every.per_slot[name][:, :, positions]
            torch.testing.assert_close(some.per_slot[name], own)


def test_mlp_resizes_its_positions_to_another_grid():
    decoder = mlp_decoder()
    with torch.no_grad():  # a ramp along columns stays a ramp
        decoder.position.copy_((torch.arange(12) % 4).double().view(1, 12, 1).expand(1, 12, 8))
    out = decoder(random(1, 3, 8).double(), (6, 8))
    assert out.grid == (6, 8)
    assert out.pred["features"].shape == (1, 48, 6)
    rows = out.pred["features"].view(6, 8, 6)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rows[:, 0], rows[:, 7])
    table = decoder.position.view(1, 3, 4, 8).permute(0, 3, 1, 2)
    table = F.interpolate(table.float(), size=(6, 8), mode="bicubic", antialias=True).double()
    twin = MLPDecoder(dims(grid=(6, 8)), {"features": FEATURES}, 16).double()
    state = {**decoder.state_dict(), "position": table.permute(0, 2, 3, 1).reshape(1, 48, 8)}
    twin.load_state_dict(state)
    expected = twin(random(1, 3, 8).double(), (6, 8))
    torch.testing.assert_close(out.pred["features"], expected.pred["features"])


@pytest.mark.parametrize(
    ("image_size", "base", "strides"),
    [((64, 64), 8, [2, 2, 2, 1]), ((128, 128), 8, [2] * 4), ((8, 8), 8, [1] * 4),
     ((12, 16), [3, 4], [2, 2, 1, 1])],
)  # fmt: skip
def test_broadcast_doubles_its_base_up_to_the_image(image_size, base, strides):
    shape = dims(image_size=image_size, grid=(2, 2))
    decoder = SpatialBroadcastDecoder(shape, {"pixels": PIXELS}, base, channels=4)
    assert [layer.stride[0] for layer in decoder.layers[::2]] == strides
    out = decoder(random(1, 3, 8), (2, 2))
    assert out.grid == image_size
    assert out.pred["pixels"].shape == (1, image_size[0] * image_size[1], 3)
    assert out.masks.shape == (1, 3, image_size[0] * image_size[1])


def test_broadcast_at_other_grids():
    out = broadcast()(random(1, 3, 8).double(), (6, 8))
    assert out.grid == (24, 32)
    assert out.pred["pixels"].shape == (1, 24 * 32, 3)
    patches = broadcast({"features": FEATURES})(random(1, 3, 8).double(), (2, 5))
    assert patches.grid == (2, 5)
    assert patches.pred["features"].shape == (1, 10, 6)
    coarse = SpatialBroadcastDecoder(dims(grid=(6, 8)), {"pixels": PIXELS}, [3, 4])
    with pytest.raises(ValueError, match="got 7x8"):
        coarse(random(1, 3, 8), (7, 8))


def test_broadcast_equals_each_slot_alone_then_mixed():
    decoder, slots = broadcast(), random(2, 3, 8).double()
    out = decoder(slots, (3, 4), per_slot=True)
    rows, columns = torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 4)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).double()
    images, alphas = [], []
    for k in range(3):
        tiled = slots[:, k, None, None] + decoder.position(grid)
        hidden = decoder.layers(tiled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        image, alpha = decoder.readout(hidden).flatten(1, 2).split([3, 1], dim=-1)
        images.append(image)
        alphas.append(alpha)
    masks = torch.stack(alphas, 1).softmax(1)
    torch.testing.assert_close(out.masks, masks.squeeze(-1))
    torch.testing.assert_close(out.per_slot["pixels"], torch.stack(images, 1))
    torch.testing.assert_close(out.pred["pixels"], (masks * torch.stack(images, 1)).sum(1))


@each_decoder
def test_bf16_autocast_keeps_masks_in_single_precision(make):
    decoder, slots = make().float(), random(2, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = decoder(slots, (3, 4))
    assert out.masks.dtype == torch.float32
    torch.testing.assert_close(out.masks.sum(dim=1), torch.ones_like(out.masks[:, 0]))
    for name, pred in decoder(slots, (3, 4)).pred.items():
        torch.testing.assert_close(out.pred[name].float(), pred, atol=0.05, rtol=0.05)


def test_decoders_refuse_what_they_cannot_predict():
    with pytest.raises(ConfigError, match=r"features per patch, pixels per pixel.*decoder=mlp"):
        SpatialBroadcastDecoder(dims(), BOTH)
    with pytest.raises(ConfigError, match=r"type decoder.base_grid=\[6,6\]"):
        SpatialBroadcastDecoder(dims(image_size=(96, 96)), {"pixels": PIXELS}, 8)
    with pytest.raises(ConfigError, match="kernel_size=5"):
        SpatialBroadcastDecoder(dims(), {"pixels": PIXELS}, kernel_size=4)
    with pytest.raises(ConfigError, match=r"image_size=\[12,16\]"):
        MLPDecoder(dims(image_size=(13, 17)), {"pixels": PIXELS})
    with pytest.raises(ConfigError, match="num_layers=3"):
        MLPDecoder(dims(), {"features": FEATURES}, num_layers=0)
