import argparse
import logging
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from einops import rearrange
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from safetensors.torch import save_file
from timm.models.eva import checkpoint_filter_fn

from slotreel.assemble import build_objective
from slotreel.assemble import make as make_part
from slotreel.backbones import tiny_vit as tiny_vit_file
from slotreel.backbones.patches import PatchPixels
from slotreel.backbones.small_cnn import SmallCNN
from slotreel.backbones.timm_vit import TimmViT
from slotreel.backbones.tiny_vit import TinyViT
from slotreel.errors import CheckpointError, ConfigError
from slotreel.layers.position import cell_centres, coordinate_grid, resize_table, sincos
from slotreel.training.optim import apply_phases, phases_begun
from tests import running

CONF = Path(__file__).parents[2] / "conf"
ALL = frozenset({"keys", "cls", "cls_attention"})
DINO = "vit_small_patch16_224.dino"
SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 4, "img_size": 64}
PLAIN = {"model": DINO, "weights": "random", "model_args": SMALL}
HUB = PLAIN | {"weights": "hub"}
DINOV2 = {
    "model": "vit_small_patch14_dinov2.lvd142m",
    "weights": "random",
    "model_args": {**SMALL, "img_size": 56},
}
REGISTERS = {
    "model": "vit_small_patch14_reg4_dinov2.lvd142m",
    "weights": "random",
    "model_args": {**SMALL, "img_size": 56},
}
DINOV3 = PLAIN | {"model": "vit_small_patch16_dinov3.lvd1689m"}
DINOV3_BIASES = PLAIN | {"model": "vit_small_patch16_dinov3_qkvb.lvd1689m"}
MIXED = PLAIN | {"model": "vit_small_patch16_rope_mixed_224.naver_in1k"}
CHILD = PLAIN | {"model_args": SMALL | {"patch_size": 14, "img_size": 56}}


def video(height, width=None, clips=2, frames=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(clips, frames, 3, height, width or height, generator=generator)


def make(kind, **knobs):
    torch.manual_seed(0)
    parts = {
        "patches": lambda: PatchPixels(**knobs),
        "small_cnn": lambda: SmallCNN(channels=(8, 8), strides=(2, 1), **knobs),
        "tiny_vit": lambda: TinyViT(width=32, depth=2, weights="random", **knobs),
        "timm": lambda: scatter(TimmViT(**PLAIN, **knobs)),
        "timm_reg": lambda: scatter(TimmViT(**REGISTERS, **knobs)),
        "timm_rotary": lambda: scatter(TimmViT(**DINOV3, **knobs)),
    }
    return parts[kind]()


def scatter(module):
    """Random values everywhere: at initialisation biases are 0 and norms the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return module


STEP = {"patches": 8, "small_cnn": 2, "tiny_vit": 8, "timm": 16, "timm_reg": 14, "timm_rotary": 16}


# --------------------------------------------------------------------------- every backbone


@pytest.mark.parametrize("kind", STEP)
@pytest.mark.parametrize("cells", [(4, 4), (2, 5), (3, 1)])
def test_shapes_at_any_size_that_fits(kind, cells):
    backbone = make(kind)
    size = (cells[0] * STEP[kind], cells[1] * STEP[kind])
    out = backbone(video(*size))
    assert backbone.grid(size) == out.grid == cells
    assert out.tokens.shape == (2, 2, cells[0] * cells[1], backbone.feature_width)
    assert (out.keys, out.cls, out.cls_attention) == (None, None, None)
    assert out.tokens.isfinite().all()


@pytest.mark.parametrize("kind", STEP)
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(kind):
    step = STEP[kind]
    backbone, bad = make(kind), (4 * step + 1, 3 * step)
    nearest = rf"got {bad[0]}x{bad[1]}; .*\[{4 * step},{3 * step}\] or .*\[{5 * step},{3 * step}\]"
    with pytest.raises(ConfigError, match=nearest):
        backbone.grid(bad)
    with pytest.raises(ConfigError, match=nearest):
        backbone(video(*bad))
    with pytest.raises(ConfigError, match=f"type image_size={step}$"):
        backbone.grid((1, 1) if step > 1 else (0, 0))
    with pytest.raises(ConfigError, match=r"expects height and width in multiples of"):
        make(kind, image_size=bad)
    make(kind, image_size=(4 * step, 3 * step))


@pytest.mark.parametrize("kind", STEP)
def test_frames_do_not_influence_each_other(kind):
    backbone, clip = make(kind).eval(), video(STEP[kind] * 4)
    whole = backbone(clip).tokens
    for t in range(2):
        torch.testing.assert_close(backbone(clip[:, t : t + 1]).tokens[:, 0], whole[:, t])


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [("patches", ALL), ("small_cnn", ALL), ("tiny_vit", ALL - {"keys"})],
)
def test_features_a_backbone_lacks_are_refused(kind, lacking):
    backbone = make(kind)
    for name in lacking:
        with pytest.raises(ConfigError, match=f"asked for {name}.*type"):
            backbone(video(64), frozenset({name}))
    assert (backbone.key_width is None) == ("keys" in lacking)


@pytest.mark.parametrize("kind", ["tiny_vit", "timm", "timm_reg", "timm_rotary"])
def test_frozen_networks_stay_put(kind):
    backbone = make(kind)
    torch.nn.Sequential(backbone).train()
    assert backbone.frozen
    assert not any(module.training for module in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert backbone.without_gradient() == {name for name, _ in backbone.named_parameters()}
    clip = video(STEP[kind] * 4).requires_grad_()
    assert not backbone(clip, frozenset({"keys"})).tokens.requires_grad


@pytest.mark.parametrize("kind", ["tiny_vit", "timm", "timm_reg", "timm_rotary"])
def test_trainable_networks_train_every_parameter(kind):
    backbone = make(kind, frozen=False)
    assert not backbone.frozen
    assert backbone.train().training
    assert not backbone.eval().training
    (backbone(video(STEP[kind] * 4)).tokens ** 2).mean().backward()
    lacking = {n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()}
    assert lacking == backbone.without_gradient() == set()


def test_small_cnn_trains_every_parameter():
    backbone = make("small_cnn")
    assert not backbone.frozen
    backbone(video(16)).tokens.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())


@pytest.mark.parametrize("kind", ["tiny_vit", "timm_reg"])
def test_chunking_bounds_the_call_and_changes_nothing(kind):
    clip, want = video(STEP[kind] * 4, clips=2, frames=3), frozenset({"keys"})
    whole, seen = make(kind)(clip, want), []
    backbone = make(kind, frames_per_call=4)
    embed = backbone.embed if kind == "tiny_vit" else backbone.vit.patch_embed
    embed.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    parts = backbone(clip, want)
    assert seen == [4, 2]
    torch.testing.assert_close(parts.tokens, whole.tokens)
    torch.testing.assert_close(parts.keys, whole.keys)
    with pytest.raises(ConfigError, match=r"frames_per_call above 0, got 0"):
        make(kind, frames_per_call=0)(clip)


OPTIONS = sorted(p.stem for p in (CONF / "backbone").glob("*.yaml"))
OPTIONS.remove("precomputed")  # stands for another backbone, see tests/feature_cache


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_builds(option):
    text = (CONF / "backbone" / f"{option}.yaml").read_text()
    assert text.startswith("# Enable with ")
    assert f"backbone={option}" in text.splitlines()[0]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(f"backbone/{option}").backbone
    knobs = {"image_size": (112, 224)}
    if "model" in cfg:
        assert cfg.weights == "hub"
        assert timm.is_model_pretrained(cfg.model)
        knobs |= {"weights": "random", "model_args": {"depth": 1}}
    if option == "tiny_vit":
        assert cfg.weights == "shipped"
        knobs["weights"] = "random"
    backbone = instantiate(cfg, _partial_=True, _convert_="all")(**knobs)
    cells = backbone.grid((112, 224))
    assert backbone(video(112, 224, 1, 1)).tokens.shape == (
        1,
        1,
        cells[0] * cells[1],
        backbone.feature_width,
    )


def test_arguments_of_older_configurations_are_refused_by_name():
    stored = {"_target_": f"{TimmViT.__module__}.TimmViT", **PLAIN, "pretrained": False}
    with pytest.raises(ConfigError, match=r"TimmViT takes no argument pretrained; .*weights"):
        make_part(stored)


# --------------------------------------------------------------------------- patches


def test_patch_tokens_hold_exactly_the_pixels():
    clip = video(16, 24)
    out = PatchPixels(patch_size=8, mean=0.5, std=0.25)(clip)
    pixels = rearrange(
        out.tokens * 0.25 + 0.5, "b t (h w) (y x c) -> b t c (h y) (w x)", h=2, y=8, x=8
    )
    assert torch.equal(pixels, (clip - 0.5) / 0.25 * 0.25 + 0.5)
    assert not list(PatchPixels().parameters())
    assert PatchPixels().frozen
    # value (y * 8 + x) * 3 + c of token i * w + j
    i, j, y, x, c = 1, 2, 3, 5, 1
    value = (clip[1, 0, c, i * 8 + y, j * 8 + x] - 0.5) / 0.25
    assert out.tokens[1, 0, i * 3 + j, (y * 8 + x) * 3 + c] == value


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_patch_tokens_average_areas(samples):
    clip = video(16, 32)
    out = PatchPixels(patch_size=8, samples=samples, mean=0.0, std=1.0)(clip)
    image = rearrange(
        out.tokens, "b t (h w) (y x c) -> b t c (h y) (w x)", h=2, y=samples, x=samples
    )
    expected = F.avg_pool2d(clip.flatten(0, 1), 8 // samples).unflatten(0, (2, 2))
    torch.testing.assert_close(image, expected)


def test_patch_knobs_are_checked():
    with pytest.raises(ConfigError, match=r"samples=3 must divide .*\[1, 2, 4, 8\]"):
        PatchPixels(patch_size=8, samples=3)
    with pytest.raises(ConfigError, match=r"std.*above 0; got 0"):
        PatchPixels(std=0.0)


# --------------------------------------------------------------------------- small_cnn


@pytest.mark.parametrize("stride", [1, 2])
def test_cnn_is_a_relu_convolution_with_same_padding(stride):
    cnn = SmallCNN(channels=(4,), strides=(stride,))
    clip = video(8, clips=1, frames=1)
    pads = (2, 2, 2, 2) if stride == 1 else (1, 2, 1, 2)
    layer = cnn.layers[0]
    expected = F.conv2d(F.pad(clip[0], pads), layer.weight, layer.bias, stride).relu()
    assert torch.equal(cnn(clip).tokens[0], expected.flatten(2).transpose(1, 2))
    assert (cnn(clip).tokens >= 0).all()


def test_cnn_initial_values_follow_the_source():
    torch.manual_seed(0)
    cnn = SmallCNN(channels=(64, 64), strides=(1, 1))
    weight = cnn.layers[1].weight
    assert not cnn.layers[1].bias.any()
    assert weight.std().item() == pytest.approx((1 / (64 * 25)) ** 0.5, rel=0.02)
    with pytest.raises(ConfigError, match=r"strides=\[1, 1\]"):
        SmallCNN(channels=(8, 8), strides=(1,))


# --------------------------------------------------------------------------- position


def test_coordinates():
    assert coordinate_grid((2, 3)).tolist() == [
        [-1, -1], [-1, 0], [-1, 1], [1, -1], [1, 0], [1, 1],
    ]  # fmt: skip
    assert cell_centres((2, 1)).tolist() == [[-0.5, 0], [0.5, 0]]


def test_sincos_closed_form():
    code = sincos(torch.tensor([[1.0, 2.0]]), 8, temperature=100.0)
    angles = torch.tensor([1.0, 0.1])
    expected = [angles.sin(), angles.cos(), (2 * angles).sin(), (2 * angles).cos()]
    torch.testing.assert_close(code[0], torch.cat(expected))
    with pytest.raises(ConfigError, match=r"multiples of 4, got 6; take 4 or 8"):
        sincos(torch.zeros(1, 2), 6)


@pytest.mark.parametrize("new", [(5, 5), (3, 9), (2, 2)])
def test_position_tables_resize_as_specified(new):
    table = torch.randn(1, 1 + 16, 6)
    image = table[:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    smooth = F.interpolate(image, new, mode="bicubic", align_corners=False, antialias=True)
    out = resize_table(table, (4, 4), new, num_prefix=1)
    assert torch.equal(out[:, 1:], smooth.permute(0, 2, 3, 1).reshape(1, -1, 6))
    assert torch.equal(out[:, :1], table[:, :1])
    assert resize_table(table, (4, 4), (4, 4), num_prefix=1) is table
    factor = ((new[0] + 0.1) / 4, (new[1] + 0.1) / 4)
    sharp = F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)
    out = resize_table(table, (4, 4), new, num_prefix=1, how="offset")
    assert torch.equal(out[:, 1:], sharp.permute(0, 2, 3, 1).reshape(1, -1, 6))
    assert not torch.allclose(sharp, smooth, atol=1e-3)


def test_offset_resize_samples_where_dino_does():
    """Output i reads input (i + 0.5) * old / (new + 0.1) - 0.5 with the cubic kernel, a = -3/4."""
    column = torch.randn(14)
    out = resize_table(column.repeat_interleave(14).reshape(1, 196, 1), (14, 14), (16, 16),
                       how="offset").reshape(16, 16)  # fmt: skip
    for i in range(3, 13):
        at = (i + 0.5) * 14 / 16.1 - 0.5
        total = 0.0
        for j in range(int(at) - 1, int(at) + 3):
            d = abs(at - j)
            near = 1.25 * d**3 - 2.25 * d**2 + 1
            far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            total += column[j].item() * (near if d <= 1 else far)
        assert out[i, 8].item() == pytest.approx(total, abs=1e-5)


# --------------------------------------------------------------------------- tiny_vit


def test_tiny_vit_equals_its_parts_run_by_hand():
    vit = scatter(make("tiny_vit"))
    clip = video(16, 24, 1, 2)
    out = vit(clip, frozenset({"keys"}))
    x = vit.embed((clip[0] - 0.5) / 0.25).flatten(2).transpose(1, 2)
    rows, columns = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
    place = torch.stack([(rows + 0.5) * 16 / 2, (columns + 0.5) * 16 / 3], -1).flatten(0, 1)
    x = vit.blocks[0](x + sincos(place, 32))
    keys = vit.blocks[1].attn.qkv(vit.blocks[1].norm1(x))[..., 32:64]
    torch.testing.assert_close(out.keys[0], keys)
    torch.testing.assert_close(out.tokens[0], vit.norm(vit.blocks[1](x)))


def test_tiny_vit_is_small_and_reproducible():
    torch.manual_seed(3)
    first = TinyViT(weights="random")
    torch.manual_seed(3)
    second = TinyViT(weights="random")
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert sum(p.numel() * 4 for p in first.parameters()) <= 5 * 2**20
    with pytest.raises(ConfigError, match=r"backbone.width in multiples"):
        TinyViT(width=30, weights="random")


def test_tiny_vit_loads_files_and_the_shipped_weights(tmp_path, monkeypatch):
    source, clip = scatter(make("tiny_vit")), video(64)
    save_file(source.state_dict(), tmp_path / "plain.safetensors")
    torch.save({"model": {f"backbone.{k}": v for k, v in source.state_dict().items()}},
               tmp_path / "run.ckpt")  # fmt: skip
    for name in ("plain.safetensors", "run.ckpt"):
        loaded = TinyViT(width=32, depth=2, weights=str(tmp_path / name))
        assert torch.equal(loaded(clip).tokens, source(clip).tokens)
    monkeypatch.setattr(tiny_vit_file, "shipped_weights", lambda: tmp_path / "plain.safetensors")
    assert torch.equal(TinyViT(width=32, depth=2)(clip).tokens, source(clip).tokens)
    with pytest.raises(CheckpointError, match=r"missing 'blocks.2.*other shape"):
        TinyViT()
    monkeypatch.setattr(tiny_vit_file, "shipped_weights", lambda: tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match=r"\./train.py experiment=tiny_vit"):
        TinyViT()


def test_shipped_weights_belong_in_the_package():
    path = tiny_vit_file.shipped_weights()
    assert path.parent.parent == Path(tiny_vit_file.__file__).parents[1]
    if path.is_file():
        assert path.stat().st_size <= 5 * 2**20
        assert TinyViT().origin == "package:tiny_vit"


# --------------------------------------------------------------------------- timm_vit


KINDS = {
    "dino": PLAIN,
    "dinov2": DINOV2,
    "registers": REGISTERS,
    "dinov3": DINOV3,
    "dinov3_biases": DINOV3_BIASES,
    "mixed": MIXED,
}


def full_network(knobs):
    """The whole network as timm builds it, with values everywhere."""
    torch.manual_seed(5)
    args = {"num_classes": 0, "dynamic_img_size": True, **knobs["model_args"]}
    return scatter(timm.create_model(knobs["model"], **args)).eval()


def same_weights(knobs, vit, **more):
    backbone = TimmViT(**knobs | more)
    state = vit.state_dict()
    backbone.vit.load_state_dict({k: state[k] for k in backbone.vit.state_dict()})
    return backbone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [(4, 4), (5, 3)])
def test_features_of_any_block_equal_timms_own(kind, cells):
    """Difference 0 to timm's own pass, native grid and others, before and after the final norm."""
    vit = full_network(KINDS[kind])
    patch, skip = vit.patch_embed.patch_size[0], vit.num_prefix_tokens
    assert skip == (5 if kind in ("registers", "dinov3", "dinov3_biases") else 1)
    clip = video(cells[0] * patch, cells[1] * patch)
    mean, std = (torch.tensor(vit.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    frames = (clip.flatten(0, 1) - mean) / std
    for layer in range(3):
        for norm in (False, True):
            backbone = same_weights(KINDS[kind], vit, layer=layer, final_norm=norm)
            assert len(backbone.vit.blocks) == layer + 1
            out = backbone(clip, frozenset({"cls"}))
            with torch.no_grad():
                ((tokens, prefix),) = vit.forward_intermediates(
                    frames, [layer], norm=norm, output_fmt="NLC", intermediates_only=True,
                    return_prefix_tokens=True,
                )  # fmt: skip
            assert torch.equal(out.tokens.flatten(0, 1), tokens)
            assert torch.equal(out.cls.flatten(0, 1), prefix[:, 0])
    with torch.no_grad():
        whole = vit.forward_features(frames)
    assert torch.equal(out.tokens.flatten(0, 1), whole[:, skip:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [(4, 4), (5, 3)])
def test_keys_and_attention_are_those_inside_timms_block(kind, cells):
    vit = full_network(KINDS[kind])
    patch, skip = vit.patch_embed.patch_size[0], vit.num_prefix_tokens
    clip, seen = video(cells[0] * patch, cells[1] * patch), {}
    block = vit.blocks[1]
    block.attn.fused_attn = False  # the only way in which timm shows the weights
    block.norm1.register_forward_hook(lambda *args: seen.update(normed=args[-1]))
    block.attn.attn_drop.register_forward_hook(lambda *args: seen.update(weights=args[-1]))
    backbone = same_weights(KINDS[kind], vit, layer=1)
    out = backbone(clip, ALL)
    with torch.no_grad():
        vit(backbone.normalise(clip).flatten(0, 1))
        bias = block.attn.qkv.bias  # Eva has none or keeps those of queries and values apart
        bias = 0 if bias is None else bias[48:96]
        keys = seen["normed"] @ block.attn.qkv.weight[48:96].T + bias
    assert backbone.key_width == 48
    torch.testing.assert_close(out.keys.flatten(0, 1), keys[:, skip:], rtol=1e-4, atol=1e-5)
    weights = seen["weights"][:, :, 0, skip:]
    torch.testing.assert_close(out.cls_attention.flatten(0, 1), weights, rtol=1e-4, atol=1e-6)


def test_blocks_and_norms_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"layer=3: .* has 3 blocks"):
        TimmViT(**PLAIN, layer=3)
    with pytest.raises(ConfigError, match=r"layer=-4: .*type backbone.layer=-1"):
        TimmViT(**PLAIN, layer=-4)
    pooled = PLAIN | {"model_args": SMALL | {"global_pool": "avg"}}
    with pytest.raises(ConfigError, match=r"final_norm=true: .* has no norm per token"):
        TimmViT(**pooled, final_norm=True)


def test_normalisation_is_that_of_the_weights_unless_given():
    backbone = scatter(TimmViT(**PLAIN))
    assert backbone.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert backbone.normalise.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    other = TimmViT(**PLAIN, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    other.load_state_dict(backbone.state_dict())
    shift = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    scale = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    clip = video(64)
    torch.testing.assert_close(
        other((clip - shift) / scale * 0.5 + 0.5).tokens, backbone(clip).tokens
    )


def test_position_resize_and_drop_path_reach_the_network():
    clip = video(96)
    smooth = scatter(TimmViT(**PLAIN))
    offset = TimmViT(**PLAIN, position_resize="offset")
    offset.load_state_dict(smooth.state_dict())
    assert not torch.allclose(offset(clip).tokens, smooth(clip).tokens)
    assert torch.equal(offset(clip[..., :64, :64]).tokens, smooth(clip[..., :64, :64]).tokens)
    with pytest.raises(ConfigError, match=r"position_resize=offset: .*dinov3.* has no table"):
        TimmViT(**DINOV3, position_resize="offset")
    args = {**SMALL, "drop_path_rate": 0.1}
    dropping = TimmViT(DINO, "random", model_args=args, frozen=False)
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for b in dropping.vit.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1])


def test_models_without_class_token_offer_no_class_features():
    backbone = TimmViT(
        DINO, "random", model_args={**SMALL, "class_token": False, "global_pool": "avg"}
    )
    assert backbone(video(64), frozenset({"keys"})).keys.shape == (2, 2, 16, 48)
    with pytest.raises(ConfigError, match=r"asked for cls, cls_attention, but .* offers keys"):
        backbone(video(64), ALL)


def test_mistakes_in_the_model_are_explained(monkeypatch):
    with pytest.raises(ConfigError, match=r"did you mean: .*vit_small_patch16_224"):
        TimmViT("vit_smal_patch16_224")
    with pytest.raises(ConfigError, match=r"expected a timm vision transformer; building resnet18"):
        TimmViT("resnet18")
    with pytest.raises(
        ConfigError, match=r"expected a timm VisionTransformer or Eva, .* is a .*Distilled"
    ):
        TimmViT("deit_tiny_distilled_patch16_224", model_args={"depth": 1})
    with pytest.raises(ConfigError, match=r"building .*depht"):
        TimmViT(DINO, model_args={"depht": 2})
    with pytest.raises(ConfigError, match=r"cannot set .*patch_drop_rate"):
        TimmViT(DINO, model_args={"patch_drop_rate": 0.5})
    with pytest.raises(ConfigError, match=r"position_resize=offsets: did you mean: offset"):
        TimmViT(**PLAIN, position_resize="offsets")
    create = timm.create_model

    def no_network(name, pretrained=False, **knobs):
        if pretrained:
            raise OSError("no route to host")
        return create(name, **knobs)

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(CheckpointError) as error:
        TimmViT(**HUB)
    assert "curl -LO https://huggingface.co/timm/vit_small_patch16_224.dino/" in str(error.value)
    assert "dino_deitsmall16_pretrain.pth" in str(error.value)
    assert "backbone.weights=FILE" in str(error.value)
    assert "backbone.weights=random" in str(error.value)


def test_pretrained_weights_are_those_timm_fetches(monkeypatch, caplog):
    create, made = timm.create_model, []

    def fetch(name, pretrained=False, **knobs):
        made.append(create(name, **knobs))
        return made[-1]

    monkeypatch.setattr(timm, "create_model", fetch)
    with caplog.at_level(logging.INFO):
        backbone = TimmViT(**HUB)
    assert backbone.vit is made[1]
    assert backbone.origin == f"timm:{DINO}"
    assert "random weights" not in caplog.text


# --------------------------------------------------------------------------- published layouts


def as_dino_full(state):
    def net(prefix, scale):
        out = {f"{prefix}backbone.{k}": v * scale for k, v in state.items()}
        head = {f"{prefix}head.mlp.0.weight": torch.ones(2, 2)}
        return out | head | {f"{prefix}head.last_layer.weight_g": torch.ones(2)}

    return {
        "student": net("module.", 0.5),
        "teacher": net("", 1.0),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1.0, "params": [0]}]},
        "epoch": 800,
        "args": argparse.Namespace(arch="vit_small"),
    }


def as_masked_autoencoder(state):
    names = ("embed.weight", "pos_embed", "blocks.0.norm1.weight", "norm.bias", "pred.weight")
    decoder = {f"decoder_{name}": torch.ones(2) for name in names}
    return {"model": state | decoder | {"mask_token": torch.zeros(1, 1, 48)}, "epoch": 399}


LAYOUTS = {
    "timm": lambda s: s,
    "dino_full": as_dino_full,
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "module_backbone": lambda s: {f"module.backbone.{k}": v for k, v in s.items()},
    "child": as_dino_full,
    "encoder": lambda s: {"teacher": {f"module.encoder.{k}": v for k, v in s.items()}},
    "masked_autoencoder": as_masked_autoencoder,
    "with_head": lambda s: {"model": s | {"head.weight": torch.ones(3, 48)}},
    "mask_token": lambda s: s | {"mask_token": torch.zeros(1, 48)},
    "slot_model": lambda s: {
        "state_dict": {
            f"encoder.module.backbone.model.{k}": v
            for k, v in s.items()
            if not k.startswith("norm.")
        }
        | {"initializer.slots": torch.zeros(1, 7, 64)}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_in_published_layouts(layout, tmp_path, caplog):
    knobs = {"mask_token": DINOV2, "child": CHILD}.get(layout, PLAIN)
    vit, clip = full_network(knobs), video(112)
    tree = LAYOUTS[layout](vit.state_dict())
    path = tmp_path / ("w.safetensors" if layout == "timm" else "w.pth")
    save_file(tree, path) if layout == "timm" else torch.save(tree, path)
    with caplog.at_level(logging.INFO):
        backbone = TimmViT(**knobs | {"weights": str(path)})
    assert "random weights" not in caplog.text
    assert backbone.origin is None
    assert torch.equal(backbone(clip).tokens, same_weights(knobs, vit)(clip).tokens)


def test_random_weights_have_no_origin():
    assert TimmViT(**PLAIN).origin is None
    assert TinyViT(width=32, depth=1, weights="random").origin is None


def test_random_weights_are_announced_unless_a_checkpoint_brings_others(caplog):
    cfg = running.composed("train", "backbone=tiny_vit", "backbone.weights=random")
    with caplog.at_level(logging.INFO):
        build_objective(cfg, weights=False)
        assert "random weights" not in caplog.text
        build_objective(cfg)
    assert "the backbone has random weights: its features mean little" in caplog.text


@pytest.mark.parametrize("nothing", [None, ""])
def test_weights_must_be_named(nothing):
    with pytest.raises(ConfigError, match=r"weights=hub, .*=FILE or backbone.weights=random"):
        TimmViT(**PLAIN | {"weights": nothing})
    with pytest.raises(ConfigError, match=r"weights=shipped, .*=FILE or backbone.weights=random"):
        TinyViT(weights=nothing)


def test_register_weights_of_the_original_release(tmp_path):
    """There the class token's position is an entry of the table; timm adds it to the token."""
    state = full_network(REGISTERS).state_dict()
    place = torch.randn(1, 1, 48)
    original = {k: v for k, v in state.items() if k != "reg_token"} | {
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - place,
        "pos_embed": torch.cat([place, state["pos_embed"]], dim=1),
        "mask_token": torch.zeros(1, 48),
    }
    torch.save(original, tmp_path / "reg.pth")
    backbone = TimmViT(**REGISTERS | {"weights": str(tmp_path / "reg.pth")})
    for name, value in backbone.vit.state_dict().items():
        torch.testing.assert_close(value, state[name])


def test_gated_mlp_weights_of_the_original_release(tmp_path):
    args = {"depth": 1, "embed_dim": 48, "num_heads": 4, "img_size": 56}
    knobs = {"model": "vit_giant_patch14_dinov2.lvd142m", "model_args": args}
    state = full_network(knobs).state_dict()
    names = {".mlp.fc1.": ".mlp.w12.", ".mlp.fc2.": ".mlp.w3."}
    original = dict(state)
    for new, old in names.items():
        original = {k.replace(new, old): v for k, v in original.items()}
    assert original.keys() != state.keys()
    torch.save(original, tmp_path / "giant.pth")
    backbone = TimmViT(**knobs | {"weights": str(tmp_path / "giant.pth")})
    for name, value in backbone.vit.state_dict().items():
        assert torch.equal(value, state[name])


def as_dinov3_release(state, bias):
    """Names of Meta's files; the key's third of a bias is masked there and may hold anything."""
    names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    out = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(3)}
    out |= {"local_cls_norm.weight": torch.ones(48)}
    for i in range(3):
        out[f"blocks.{i}.attn.qkv.bias"] = bias.clone()
        out[f"blocks.{i}.attn.qkv.bias_mask"] = torch.ones(144)
    for name, value in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        if not name.endswith(("q_bias", "v_bias")):
            out[name] = value
    return out


@pytest.mark.parametrize("knobs", [DINOV3, DINOV3_BIASES], ids=["no_biases", "biases"])
@pytest.mark.parametrize("layer", [0, -1])
def test_dinov3_weights_of_the_original_release(knobs, layer, tmp_path):
    vit = full_network(knobs)
    bias = torch.randn(144) if knobs is DINOV3_BIASES else torch.zeros(144)
    bias[48:96] = 7.0
    release = as_dinov3_release(vit.state_dict(), bias)
    torch.save(release, tmp_path / "dinov3.pth")
    backbone = TimmViT(**knobs | {"weights": str(tmp_path / "dinov3.pth"), "layer": layer})
    vit.load_state_dict(checkpoint_filter_fn(release, vit))  # timm's own conversion
    expected = same_weights(knobs, vit, layer=layer)
    assert torch.equal(backbone(video(64)).tokens, expected(video(64)).tokens)


def test_dinov3_weights_of_another_network_are_refused(tmp_path):
    release = as_dinov3_release(full_network(DINOV3).state_dict(), torch.ones(144))

    def load(tree, **knobs):
        torch.save(tree, tmp_path / "w.pth")
        return TimmViT(**DINOV3 | knobs | {"weights": str(tmp_path / "w.pth")})

    with pytest.raises(CheckpointError, match=r"qkv.bias is not 0 .*dinov3_qkvb"):
        load(release)
    with pytest.raises(CheckpointError, match=r"missing 'pos_embed'; unexpected .*rope"):
        load(release, model=DINO)
    release = as_dinov3_release(full_network(DINOV3).state_dict(), torch.zeros(144))
    with pytest.raises(CheckpointError, match=r"missing none; unexpected 'blocks.1.extra'"):
        load(release | {"blocks.1.extra": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"'reg_token \(1, 2, 48\) instead of \(1, 4, 48\)'"):
        load(release | {"storage_tokens": torch.ones(1, 2, 48)})


def test_wrong_weights_are_refused_by_name(tmp_path):
    state = full_network(PLAIN).state_dict()
    cut = {k: v for k, v in state.items() if k != "blocks.1.attn.qkv.bias"}

    def load(tree, **knobs):
        torch.save(tree, tmp_path / "w.pth")
        return TimmViT(**PLAIN | knobs | {"weights": str(tmp_path / "w.pth")})

    with pytest.raises(CheckpointError, match=r"missing 'blocks.1.attn.qkv.bias'; unexpected none"):
        load(cut)
    with pytest.raises(CheckpointError, match=r"unexpected 'blocks.0.ls1.gamma'"):
        load(state | {"blocks.0.ls1.gamma": torch.ones(48)})
    with pytest.raises(CheckpointError, match=r"'pos_embed \(1, 5, 48\) instead of \(1, 17, 48\)'"):
        load(state | {"pos_embed": torch.zeros(1, 5, 48)})
    with pytest.raises(CheckpointError, match=r"missing 'norm.weight', 'norm.bias'"):
        load({k: v for k, v in state.items() if not k.startswith("norm.")}, final_norm=True)
    deeper = {k.replace("blocks.0", f"blocks.{i}"): v for i in (3, 4) for k, v in state.items()}
    with pytest.raises(CheckpointError, match=r"unexpected 'blocks.3.* and 16 more"):
        load(state | deeper)
    with pytest.raises(CheckpointError, match=r"parameter named patch_embed.proj.weight.*conv1"):
        load({"conv1.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"expected one network, found 2, under 'a.', 'b.'"):
        load({"a": state, "b": state})
    assert load(state, layer=0)(video(64)).tokens.shape == (2, 2, 16, 48)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"weights file at .*absent.pth, found none"):
        TimmViT(**PLAIN | {"weights": str(tmp_path / "absent.pth")})
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(CheckpointError, match=f"could not read .*{name}"):
            TimmViT(**PLAIN | {"weights": str(tmp_path / name)})
    torch.save({"model": Path}, tmp_path / "code.pth")  # a pickle that names a class to import
    with pytest.raises(CheckpointError, match=r"could not read .*code.pth"):
        TimmViT(**PLAIN | {"weights": str(tmp_path / "code.pth")})


def test_keys_as_the_feature_drop_what_keys_do_not_need() -> None:
    small = {"model": DINO, "weights": "random", "model_args": {"depth": 2}}
    torch.manual_seed(0)
    whole, keys = TimmViT(**small), TimmViT(**small, feature="keys")
    left = keys.load_state_dict(whole.state_dict(), strict=False)
    dropped = {name.removeprefix("vit.blocks.1.") for name in left.unexpected_keys}
    assert not left.missing_keys
    assert dropped == {
        f"{part}.{kind}"
        for part in ("attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    }
    video = torch.rand(1, 2, 3, 32, 32)
    with torch.no_grad():
        wanted = whole(video, frozenset({"keys"})).keys
        assert wanted is not None
        assert torch.equal(keys(video).tokens, wanted)
        assert torch.equal(keys(video, frozenset({"keys"})).tokens, wanted)
    with pytest.raises(ConfigError, match="final_norm=false"):
        TimmViT(**small, feature="keys", final_norm=True)
    with pytest.raises(ConfigError, match="output"):
        TimmViT(**small, feature="values")


def test_frozen_until_a_step_keeps_no_graph_before_it() -> None:
    small = {"model": DINO, "weights": "random", "model_args": {"depth": 2}}
    backbone = TimmViT(**small, frozen=False, frozen_until=3)
    video = torch.rand(1, 1, 3, 32, 32)
    for step, trained in ((0, False), (2, False), (3, True)):
        apply_phases(backbone, phases_begun(backbone.phases(), step))
        assert backbone(video).tokens.requires_grad is trained
    assert backbone.without_gradient() == set()
    with pytest.raises(ConfigError, match="frozen=false"):
        TimmViT(**small, frozen_until=3)
