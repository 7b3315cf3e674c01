import math

import pytest
import torch
import yaml
from closed_forms import CONF, built, context, dims, random, wave
from hypothesis import given, settings
from hypothesis import strategies as st

from slotreel.decoders.mlp import MLPDecoder
from slotreel.decoders.spatial_broadcast import SpatialBroadcastDecoder
from slotreel.errors import ConfigError
from slotreel.losses.colour_rec import ColourRecLoss, mean_colours
from slotreel.losses.feature_rec import FeatureRecLoss
from slotreel.losses.pixel_rec import PixelRecLoss, to_image
from slotreel.losses.slot_contrast import SlotContrastLoss
from slotreel.types import DecoderOutput, Level, Target

WAVE = wave((2, 3, 2, 3), 0, 0.3)


def fixed(pred, grid, name):
    """A decoder that always predicts the same."""
    return lambda slots, _grid: DecoderOutput({name: pred}, None, grid)


@pytest.mark.parametrize("option", ["colour_rec", "feature_rec", "pixel_rec", "slot_contrast"])
def test_option_builds_with_its_yaml(option):
    loss = built("losses", option, key=option, dims=dims())
    assert loss.weight == (0.01 if option == "slot_contrast" else 1.0)


def test_the_published_set_names_its_two_terms():
    text = yaml.safe_load((CONF / "losses" / "ss_contrastive.yaml").read_text())
    assert text == {
        "defaults": ["feature_rec", "slot_contrast", "_self_"],
        "slot_contrast": {"weight": 0.5},
    }


def test_needs():
    assert FeatureRecLoss(dims()).needs.decode == {"features": Target(6, "patch")}
    assert FeatureRecLoss(dims()).needs.frozen_target
    assert PixelRecLoss(dims()).needs.decode == {"pixels": Target(3, "pixel")}
    assert not PixelRecLoss(dims()).needs.frozen_target
    needs = SlotContrastLoss(dims()).needs
    assert (needs.min_frames, needs.batch_wide, dict(needs.decode)) == (2, True, {})
    assert not SlotContrastLoss(dims(), batch=False).needs.batch_wide


# --- slot_contrast ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [True, False])
def test_contrast_over_both_frames_is_the_mean_of_the_two(batch):
    value = {
        over: SlotContrastLoss(dims(), batch=batch, softmax_over=over)(context(WAVE))[0]
        for over in ("earlier", "later", "both")
    }
    assert abs(value["later"] - value["earlier"]) > 1
    torch.testing.assert_close(value["both"], (value["earlier"] + value["later"]) / 2)


@pytest.mark.parametrize("batch", [True, False])
def test_contrast_is_cross_entropy_over_the_earlier_frame(batch):
    slots = random(2, 3, 4, 5).double()
    unit = slots / slots.norm(dim=-1, keepdim=True)
    values = []
    for t in range(2):
        sets = [(0, 1)] if batch else [(0,), (1,)]
        for clips in sets:
            early = torch.cat([unit[b, t] for b in clips])
            late = torch.cat([unit[b, t + 1] for b in clips])
            for j in range(len(late)):
                similarity = early @ late[j] / 0.2
                values.append(similarity.exp().sum().log() - similarity[j])
    expected = torch.stack(values).mean().item()
    loss, logs = SlotContrastLoss(dims(), tau=0.2, batch=batch)(context(slots))
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    assert logs["contrast_chance"].item() == pytest.approx(1 / 8 if batch else 1 / 4)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.booleans(),
    softmax_over=st.sampled_from(["earlier", "later", "both"]),
)
def test_contrast_ignores_scale_and_order(seed, batch, softmax_over):
    loss = SlotContrastLoss(dims(), batch=batch, softmax_over=softmax_over)
    slots = random(3, 3, 4, 5, seed=seed).double()
    value = loss(context(slots))[0]
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(3, 3, 4, 1, generator=generator).double() + 0.1
    order, clips = torch.randperm(4, generator=generator), torch.randperm(3, generator=generator)
    torch.testing.assert_close(loss(context(slots * scale))[0], value)
    torch.testing.assert_close(loss(context(slots[clips][:, :, order]))[0], value)


def test_contrast_top1_counts_slots_that_find_themselves():
    still = torch.eye(4).expand(1, 2, 4, 4).clone()
    assert SlotContrastLoss(dims())(context(still))[1]["contrast_top1"] == 1.0
    still[0, 1] = still[0, 1][[1, 0, 2, 3]]
    assert SlotContrastLoss(dims())(context(still))[1]["contrast_top1"] == 0.5


def test_contrast_gathers_only_when_it_merges_clips():
    def double(x):
        return torch.cat([x, x.flip(0)])

    slots = random(2, 2, 3, 4)
    whole = SlotContrastLoss(dims())(context(double(slots)))[0]
    torch.testing.assert_close(SlotContrastLoss(dims())(context(slots, gather=double))[0], whole)
    for arguments in ({"gather": False}, {"batch": False}):
        loss = SlotContrastLoss(dims(), **arguments)
        alone, same = loss(context(slots))[0], loss(context(slots, gather=double))[0]
        torch.testing.assert_close(same, alone)


def test_contrast_follows_the_level():
    slots, semantic = random(2, 2, 6, 4), random(2, 2, 3, 4, seed=1)
    ctx = context(slots)
    levels = {"semantic": Level(semantic, semantic)}
    ctx = ctx._replace(student=(ctx.student[0]._replace(levels=levels),))
    for level, used in (("auto", semantic), ("semantic", semantic), ("slots", slots)):
        value = SlotContrastLoss(dims(), level=level)(ctx)[0]
        torch.testing.assert_close(value, SlotContrastLoss(dims())(context(used))[0])
    with pytest.raises(KeyError, match="choose one of"):
        SlotContrastLoss(dims(), level="instance")(ctx)


def test_contrast_sends_gradient_to_both_frames_and_stays_exact_under_autocast():
    slots = random(2, 2, 3, 4).requires_grad_()
    value = SlotContrastLoss(dims())(context(slots))[0]
    value.backward()
    assert (slots.grad.abs().amax(dim=(0, 2, 3)) > 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(SlotContrastLoss(dims())(context(slots))[0], value)
    slots = torch.zeros(1, 2, 3, 4, requires_grad=True)
    SlotContrastLoss(dims())(context(slots))[0].backward()
    assert slots.grad.isfinite().all()


def test_contrast_refuses():
    with pytest.raises(ConfigError, match=r"tau=0\.1"):
        SlotContrastLoss(dims(), tau=0.0)
    with pytest.raises(ConfigError, match="did you mean: earlier"):
        SlotContrastLoss(dims(), softmax_over="early")
    with pytest.raises(ValueError, match="T >= 2"):
        SlotContrastLoss(dims())(context(random(2, 1, 3, 4)))


# --- feature_rec -----------------------------------------------------------------------------


def test_feature_rec_by_hand():
    tokens = torch.tensor([0.0, 2.0, 0.0, 2.0]).view(1, 1, 4, 1)
    pred = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 4, 1)
    ctx = context(random(1, 1, 2, 8), tokens=tokens, decoder=fixed(pred, (2, 2), "features"))
    value, logs = FeatureRecLoss(dims(feature=1))(ctx)
    assert value.item() == 0.5
    assert logs["rec_r2"].item() == 0.5


def test_predicting_each_channels_mean_explains_nothing():
    tokens = random(2, 3, 12, 6) + 10 * torch.arange(6)
    mean = tokens.flatten(0, 2).mean(0).expand(6, 12, 6)
    ctx = context(random(2, 3, 2, 8), tokens=tokens, decoder=fixed(mean, (3, 4), "features"))
    assert FeatureRecLoss(dims())(ctx)[1]["rec_r2"].item() == pytest.approx(0.0, abs=1e-6)


def test_feature_rec_leaves_the_target_alone_and_trains_slots():
    decoder = MLPDecoder(dims(), {"features": Target(6, "patch")}, 16)
    slots = random(2, 3, 3, 8).requires_grad_()
    tokens = random(2, 3, 12, 6).requires_grad_()
    FeatureRecLoss(dims())(context(slots, tokens=tokens, decoder=decoder))[0].backward()
    assert tokens.grad is None
    assert slots.grad.abs().max() > 0


def test_feature_rec_refuses_another_grid():
    ctx = context(random(1, 1, 2, 8), decoder=fixed(random(1, 6, 6), (2, 3), "features"))
    with pytest.raises(ValueError, match=r"expects predictions of shape \(1, 12, 6\)"):
        FeatureRecLoss(dims())(ctx)


@pytest.mark.parametrize(
    ("make", "name"), [(FeatureRecLoss, "features"), (ColourRecLoss, "colours")]
)
def test_some_patches_estimate_the_whole_term(make, name):
    """Over many draws of 3 of 12 patches value and gradient are those of all patches."""
    width = 6 if name == "features" else 3
    decoder = MLPDecoder(dims(), {name: Target(width, "patch")}, 16).double()
    slots = random(2, 3, 3, 8).double().requires_grad_()
    tokens, video = random(2, 3, 12, 6).double(), torch.rand(2, 3, 3, 12, 16).double()

    def term(share):
        ctx = context(slots, tokens=tokens, video=video, decoder=decoder)
        value = make(dims(), patches=share)(ctx)[0]
        return torch.cat([value[None], torch.autograd.grad(value, slots)[0].flatten()]).detach()

    whole = term(1.0)
    draws = torch.stack([term(0.25) for _ in range(400)])
    spread = draws.std(dim=0) / 20
    assert spread.max() > 0
    assert ((draws.mean(dim=0) - whole).abs() <= 5 * spread + 1e-9).all()


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_of_patches_is_refused(share):
    with pytest.raises(ConfigError, match=r"patches above 0 and at most 1.*patches=0\.25"):
        FeatureRecLoss(dims(), patches=share)


# --- pixel_rec -------------------------------------------------------------------------------


def test_cells_become_the_image_in_the_documented_order():
    image = torch.arange(2 * 3 * 12 * 16).view(2, 3, 12, 16)
    cells = torch.zeros(2, 12, 48, dtype=image.dtype)
    for cell in range(12):
        row, column = 4 * (cell // 4), 4 * (cell % 4)
        patch = image[:, :, row : row + 4, column : column + 4]
        cells[:, cell] = patch.flatten(1)  # (colour, row, column)
    assert torch.equal(to_image(cells, (3, 4), image), image)
    assert torch.equal(to_image(image.flatten(2).mT, (12, 16), image), image)


def test_pixel_rec_by_hand():
    video = torch.zeros(1, 1, 3, 12, 16)
    video[..., 8:] = 1.0
    pred = torch.full((1, 12, 48), 0.5)
    value, logs = PixelRecLoss(dims())(
        context(random(1, 1, 2, 8), video=video, decoder=fixed(pred, (3, 4), "pixels"))
    )
    assert value.item() == 0.25
    assert logs["pixel_rec_r2"].item() == pytest.approx(0.0, abs=1e-6)
    assert logs["psnr"].item() == pytest.approx(10 * math.log10(4), abs=1e-5)


@pytest.mark.parametrize(
    "decoder",
    [
        MLPDecoder(dims(), {"pixels": Target(3, "pixel")}, 16),
        SpatialBroadcastDecoder(dims(), {"pixels": Target(3, "pixel")}, [3, 4], channels=4),
    ],
    ids=["mlp", "spatial_broadcast"],
)
def test_pixel_rec_trains_through_both_decoders(decoder):
    slots = random(2, 3, 3, 8).requires_grad_()
    ctx = context(slots, video=torch.rand(2, 3, 3, 12, 16), decoder=decoder)
    value, logs = PixelRecLoss(dims())(ctx)
    value.backward()
    assert slots.grad.abs().max() > 0
    assert not any(log.requires_grad for log in logs.values())


def test_pixel_rec_refuses_cells_that_do_not_tile_the_frame():
    ctx = context(random(1, 1, 2, 8), decoder=fixed(random(1, 20, 27), (4, 5), "pixels"))
    with pytest.raises(ValueError, match="tile 12x16 pixels"):
        PixelRecLoss(dims())(ctx)


# --- colour_rec ------------------------------------------------------------------------------


def test_mean_colours_of_windows_by_hand():
    frame = torch.arange(16.0).view(1, 1, 4, 4)
    assert mean_colours(frame, (2, 2), 1).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    # Windows of two cells: of the corner ones, 3 x 3 pixels lie inside the frame.
    corner = frame[0, 0, :3, :3].mean().item()
    assert mean_colours(frame, (2, 2), 2)[0, 0, 0].item() == pytest.approx(corner)
    # An even window on single pixels reaches one further right and down.
    assert mean_colours(frame, (4, 4), 2)[0, :, 0].tolist()[:4] == [2.5, 3.5, 4.5, 5.0]
    flat = torch.full((2, 3, 12, 16), 0.25)
    assert torch.allclose(mean_colours(flat, (3, 4), 2), torch.full((2, 12, 3), 0.25))


def test_colour_rec_does_not_see_a_pattern_finer_than_its_window():
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    checks = ((rows + columns) % 2).float().expand(1, 1, 3, 12, 16)
    decoder = fixed(torch.zeros(1, 12, 3), (3, 4), "colours")
    ctx = context(random(1, 1, 2, 8), video=checks, decoder=decoder)
    assert ColourRecLoss(dims())(ctx)[0].item() == 0.0
    shifted = context(random(1, 1, 2, 8), video=checks + 0.5, decoder=decoder)
    assert ColourRecLoss(dims())(shifted)[0].item() == pytest.approx((0.5 / 0.25) ** 2)


def test_colour_rec_trains_and_explains():
    slots = random(2, 3, 3, 8).requires_grad_()
    decoder = MLPDecoder(dims(), ColourRecLoss(dims()).needs.decode, 16)
    value, logs = ColourRecLoss(dims(), window=3)(
        context(slots, video=torch.rand(2, 3, 3, 12, 16), decoder=decoder)
    )
    value.backward()
    assert slots.grad.abs().max() > 0
    assert logs["colour_rec_r2"].item() < 1


@pytest.mark.parametrize(
    ("options", "answer"), [({"window": 0}, "window=2"), ({"std": 0}, "std=0.25")]
)
def test_colour_rec_refuses_numbers_that_mean_nothing(options, answer):
    with pytest.raises(ConfigError, match=f"type losses.colour_rec.{answer}"):
        ColourRecLoss(dims(), **options)


def test_colour_rec_refuses_another_grid():
    ctx = context(random(1, 1, 2, 8), decoder=fixed(random(1, 6, 3), (2, 3), "colours"))
    with pytest.raises(ValueError, match=r"expects predictions of shape \(1, 12, 3\)"):
        ColourRecLoss(dims())(ctx)
