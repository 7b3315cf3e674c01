"""Experiments compose to the published training recipes, value by value, and to their sizes.

Source: configurations released with SlotContrast (arXiv:2412.14295) and VideoSAUR
(arXiv:2306.04829); where the latter give a learning rate per 32 clips, the product stands here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf

from slotreel.assemble import make
from slotreel.objective import SlotObjective
from tests import running


class Recipe(NamedTuple):
    """What was published of one experiment."""

    backbone: str
    pixels: int
    grid: int
    features: int
    slots: int
    width: int
    steps: int
    clips: int
    frames: int
    rate: float
    warmup: int
    halved_at: int
    clip: float
    initializer: str
    rounds: tuple[int, int]  # of the first frame, of later ones
    mlp: bool
    predictor: str
    decoder: str
    losses: dict[str, float]
    temperature: float | None
    resize: str
    mirrored: float
    workers: int
    eval_every: int
    protocol: str
    parameters: int  # trainable


S14, B14 = "vit_small_patch14_dinov2.lvd142m", "vit_base_patch14_dinov2.lvd142m"
B8, B16 = "vit_base_patch8_224.dino", "vit_base_patch16_224.dino"
LEARNED, GAUSSIAN = "FixedLearnedInit", "GaussianInit"
CONTRAST = {"feature_rec": 1.0, "slot_contrast": 0.5}
SIMILARITY, BOTH = {"feature_similarity": 0.1}, {"feature_rec": 1.0, "feature_similarity": 0.1}
ONE_BLOCK = "TransformerPredictor, 1 x 4 heads"
MLP, MLP_COCO = "MLPDecoder 3 x 1024", "MLPDecoder 3 x 2048"
MIXER_MOVI = "SlotMixerDecoder 2 blocks, 3 + 1 x 1024"
MIXER_YTVIS = "SlotMixerDecoder 3 blocks, 2 + 1 x 1024"
WHOLE, CUT = "whole frame", "short side, random crop"
MOVI, YTVIS, CHUNKS = "discovery_video", "discovery_video_ytvis", "discovery_chunks6"
K = 1000

PUBLISHED = {
    "slotcontrast_movi_c": Recipe(
        S14, 336, 24, 384, 11, 64, 100 * K, 64, 4, 4e-4, 2500, 100 * K, 0.05, LEARNED, (3, 2), True,
        ONE_BLOCK, MLP, CONTRAST, 0.1, WHOLE, 0.5, 4, 2500, MOVI, 3_064_321,
    ),
    "slotcontrast_movi_e": Recipe(
        B14, 336, 24, 768, 15, 128, 300 * K, 64, 4, 4e-4, 2500, 300 * K, 0.05, LEARNED, (3, 2),
        True, ONE_BLOCK, MLP, CONTRAST, 0.1, WHOLE, 0.5, 4, 2500, MOVI, 4_953_601,
    ),
    "slotcontrast_ytvis2021": Recipe(
        B14, 518, 37, 768, 7, 64, 100 * K, 64, 4, 8e-4, 2500, 100 * K, 0.05, LEARNED, (3, 2), True,
        ONE_BLOCK, MLP, CONTRAST, 0.1, CUT, 0.0, 4, 2500, YTVIS, 4_443_841,
    ),
    "videosaur_movi_c": Recipe(
        B8, 224, 28, 768, 11, 128, 100 * K, 128, 4, 4e-4, 2500, 100 * K, 0.05, GAUSSIAN, (3, 2),
        False, ONE_BLOCK, MIXER_MOVI, SIMILARITY, 0.075, WHOLE, 0.5, 8, 1000, MOVI, 6_341_648,
    ),
    "videosaur_movi_e": Recipe(  # its size was not published
        B8, 224, 28, 768, 15, 128, 100 * K, 128, 4, 4e-4, 2500, 100 * K, 0.05, GAUSSIAN, (3, 2),
        False, ONE_BLOCK, MIXER_MOVI, SIMILARITY, 0.075, WHOLE, 0.5, 8, 1000, MOVI, 6_341_648,
    ),
    "videosaur_ytvis2021": Recipe(  # its size was not published
        B16, 224, 14, 768, 7, 64, 100 * K, 128, 4, 4e-4, 2500, 100 * K, 0.05, GAUSSIAN, (3, 2),
        False, ONE_BLOCK, MIXER_YTVIS, BOTH, 0.25, CUT, 0.5, 8, 1000, CHUNKS, 4_693_636,
    ),
    "videosaur_ytvis2021_dinov2": Recipe(
        B14, 518, 37, 768, 7, 64, 100 * K, 64, 4, 2e-4, 2500, 100 * K, 0.05, GAUSSIAN, (3, 2),
        False, ONE_BLOCK, MIXER_YTVIS, BOTH, 0.15, CUT, 0.5, 8, 1000, CHUNKS, 5_971_033,
    ),
    "dinosaur_coco": Recipe(
        B14, 224, 16, 768, 7, 256, 500 * K, 64, 1, 4e-4, 10 * K, 100 * K, 1.0, GAUSSIAN, (3, 3),
        True, "Carry", MLP_COCO, {"feature_rec": 1.0}, None, CUT, 0.5, 4, 2500, "discovery_image",
        13_255_425,
    ),
}  # fmt: skip


def last_name(part: DictConfig) -> str:
    return str(part["_target_"]).rpartition(".")[2]


def decoder_of(decoder: DictConfig) -> str:
    if last_name(decoder) == "MLPDecoder":
        return f"MLPDecoder {decoder.num_layers} x {decoder.hidden_dim}"
    layers = f"{decoder.num_layers - 1} + 1 x {decoder.hidden_dim}"
    return f"{last_name(decoder)} {decoder.num_blocks} blocks, {layers}"


def predictor_of(predictor: DictConfig) -> str:
    name = last_name(predictor)
    heads = "" if name == "Carry" else f", {predictor.num_layers} x {predictor.num_heads} heads"
    return name + heads


def resize_of(cfg: DictConfig) -> str:
    """What frames go through, after checking each number of it."""
    size = cfg.image_size
    bicubic = {"size": size, "interpolation": "bicubic", "antialias": False}
    names = [last_name(step) for step in [*cfg.dataset.transform, *cfg.dataset.augment]]
    names = [name for name in names if name != "HorizontalFlip"]
    steps = [dict(s) for s in [*cfg.dataset.transform, *cfg.dataset.augment]][: len(names)]
    for step in steps:
        del step["_target_"]
    if names == ["Resize"]:
        assert steps == [bicubic]
        return WHOLE
    assert names == ["ResizeShortSide", "RandomCrop"]
    assert steps == [bicubic | {"long_side": "down"}, {"size": size}]
    return CUT


def composed_recipe(cfg: DictConfig, objective: SlotObjective) -> Recipe:
    model, (group,) = objective.model, cfg.optim.groups.values()
    (validation,) = (cfg.get("validate") or cfg.dataset.validation).values()
    losses = {name: loss.weight for name, loss in cfg.losses.items()}
    temperatures = [
        loss.get("tau", loss.get("temperature"))
        for name, loss in cfg.losses.items()
        if name != "feature_rec"
    ]
    (mirrored,) = [s.p for s in cfg.dataset.augment if last_name(s) == "HorizontalFlip"] or [0.0]
    trained = [p.numel() for p in objective.parameters() if p.requires_grad]
    height, width = model.backbone.grid((cfg.image_size, cfg.image_size))
    assert height == width
    return Recipe(
        cfg.backbone.model, cfg.image_size, height, model.backbone.feature_width, cfg.num_slots,
        cfg.slot_dim, cfg.trainer.num_steps, cfg.trainer.batch_size, cfg.clip_length, group.lr,
        group.schedule.warmup, group.schedule.halved_at, cfg.optim.clip.max,
        last_name(cfg.initializer), (cfg.grouper.num_iters_first, cfg.grouper.num_iters),
        cfg.grouper.hidden_dim != 0, predictor_of(cfg.predictor), decoder_of(cfg.decoder), losses,
        temperatures[0] if temperatures else None, resize_of(cfg), mirrored,
        cfg.trainer.num_workers, cfg.trainer.eval_every, validation.protocol.name, sum(trained),
    )  # fmt: skip


each_experiment = pytest.mark.parametrize("experiment", PUBLISHED)


@each_experiment
def test_every_published_value(experiment: str) -> None:
    cfg, objective = running.built(experiment)
    assert isinstance(objective, SlotObjective)
    ours, published = composed_recipe(cfg, objective), PUBLISHED[experiment]
    assert ours._asdict() == published._asdict()


COMMON: dict[str, Any] = {
    "frame_stride": 1,
    "model.masks": "decoder",
    "backbone.layer": -1,
    "backbone.final_norm": False,
    "backbone.frozen": True,
    "backbone.position_resize": "antialias",
    "backbone.mean": [0.485, 0.456, 0.406],
    "backbone.std": [0.229, 0.224, 0.225],
    "projector._target_": "slotreel.projectors.mlp2.MLP2",
    "projector.hidden_dim": None,
    "grouper._target_": "slotreel.groupers.slot_attention.SlotAttention",
    "grouper.gru": True,
    "grouper.gru_state": "normed",
    "grouper.eps": 1e-8,
    "grouper.eps_place": "add",
    "grouper.kvq_dim": None,
    "grouper.norm_eps": 1e-5,
    "grouper.gradient": "full",
    "grouper.skip_last_mlp": False,
    "initializer.initial_std": None,
    "decoder.position_std": None,
    "optim.optimizer": {
        "_target_": "torch.optim.Adam",
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "fused": True,
    },
    "optim.groups.all.weight_decay": 0.0,
    "optim.clip.norm": 2,
    "trainer.precision": "fp32",
    "trainer.accumulate": 1,
    "trainer.save_every": 1000,
}
WHERE_THERE_IS_ONE: dict[str, Any] = {
    "predictor.attention_scale": "inverse",
    "predictor.hidden_dim": None,
    "decoder.attention_scale": "inverse",
    "decoder.num_heads": 4,
    "decoder.temperature": None,
    "losses.slot_contrast.batch": True,
    "losses.slot_contrast.gather": False,
    "losses.slot_contrast.softmax_over": "earlier",
    "losses.feature_similarity.threshold": 0.0,
    "losses.feature_similarity.features": "keys",
    "initializer.start": "constant",
    "initializer.per_slot": False,
    "initializer.trainable": True,
    "initializer.groups": None,
}


def value_at(cfg: DictConfig, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        if name not in node:
            return KeyError
        node = node[name]
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


@each_experiment
def test_what_all_of_them_share(experiment: str) -> None:
    cfg, _ = running.built(experiment)
    assert {key: value_at(cfg, key) for key in COMMON} == COMMON
    for key, value in WHERE_THERE_IS_ONE.items():
        assert value_at(cfg, key) in (value, KeyError), key
    assert cfg.clip_length == 1 or cfg.clip_starts == "tiled"


@each_experiment
def test_validation_sees_and_compares_at_the_published_size(experiment: str) -> None:
    cfg, objective = running.built(experiment)
    (validation,) = (cfg.get("validate") or cfg.dataset.validation).values()
    protocol = make(validation.protocol)()
    size, framing = (cfg.image_size, cfg.image_size), protocol.framing
    assert framing.compared_at((720, 1280), framing.image_size or size) == size
    assert (framing.interpolation, framing.antialias) == ("bicubic", False)
    assert framing.crop == ("whole" if "movi" in experiment else "centre_square")
    assert protocol.window == (6 if "chunks" in protocol.name else None)
    assert protocol.max_frames is None
    assert objective.mask_source(protocol.masks) == "decoder"
    expected = {"movi": ("exists", "one"), "ytvis": ("none", "skip"), "coco": ("none", "skip")}
    (kind,) = [kind for kind in expected if kind in experiment]
    (metric,) = validation.protocol.metrics
    assert (metric.background, metric.empty_frame) == expected[kind]
    assert metric.iou_background == "out"
