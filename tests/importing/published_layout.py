"""Keys and shapes of the published files, written down by hand, not from our code.

F backbone width, D slot width, K slots, P patches, N 14 x 14 pixel patches of the position table.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


class Kind(NamedTuple):
    """Numbers that fix a published configuration."""

    F: int
    D: int
    K: int
    P: int
    patch: int = 14
    table: int = 37 * 37
    layer_scale: bool = True
    depth: int = 12
    random_init: bool = False
    corrector_mlp: bool = True
    video: bool = True
    hidden: int = 1024
    mixer: tuple[int, int, int] | None = None  # allocator blocks, renderer layers, channels


DINO8 = {"patch": 8, "table": 28 * 28, "layer_scale": False}
VS = {"random_init": True, "corrector_mlp": False}
KINDS = {
    ("slotcontrast", "movi_c"): Kind(384, 64, 11, 576),
    ("slotcontrast", "movi_e"): Kind(768, 128, 15, 576),
    ("slotcontrast", "ytvis2021"): Kind(768, 64, 7, 1369),
    ("videosaur", "movi_c"): Kind(768, 128, 11, 784, **DINO8, **VS, mixer=(2, 4, 784)),
    ("videosaur", "movi_e"): Kind(768, 128, 15, 784, **DINO8, **VS, mixer=(2, 4, 784)),
    ("videosaur", "ytvis2021"): Kind(
        768, 64, 7, 196, 16, 14 * 14, False, **VS, mixer=(3, 3, 768 + 196)
    ),
    ("videosaur", "ytvis2021_dinov2"): Kind(768, 64, 7, 1369, **VS, mixer=(3, 3, 768 + 1369)),
    ("dinosaur", "coco"): Kind(768, 256, 7, 256, random_init=True, video=False, hidden=2048),
}
# Trainable parameters that the published programs report.
TRAINED = {
    ("slotcontrast", "movi_c"): 3_064_321,
    ("slotcontrast", "movi_e"): 4_953_601,
    ("slotcontrast", "ytvis2021"): 4_443_841,
    ("videosaur", "movi_c"): 6_341_648,
    ("videosaur", "ytvis2021_dinov2"): 5_971_033,
    ("dinosaur", "coco"): 13_255_425,
}


def shapes(k: Kind) -> Shapes:
    """Every key of ``state_dict`` with its shape."""
    wrap = ".module" if k.video else ""
    corrector, decoder = f"processor{wrap}.corrector", f"decoder{wrap}"
    found: Shapes = {}
    if k.random_init:
        found |= {"initializer.mean": (1, 1, k.D), "initializer.log_std": (1, 1, k.D)}
    else:
        found["initializer.slots"] = (1, k.K, k.D)
    found |= _vit(f"encoder{wrap}.backbone.model", k)
    mlp = f"encoder{wrap}.output_transform.layers"
    found |= (
        _both(f"{mlp}.0", k.F) | _both(f"{mlp}.1", 2 * k.F, k.F) | _both(f"{mlp}.3", k.D, 2 * k.F)
    )
    found |= {f"{corrector}.{name}.weight": (k.D, k.D) for name in ("to_k", "to_v", "to_q")}
    found |= {f"{corrector}.gru.weight_{n}": (3 * k.D, k.D) for n in ("ih", "hh")}
    found |= {f"{corrector}.gru.bias_{n}": (3 * k.D,) for n in ("ih", "hh")}
    found |= _both(f"{corrector}.norm_features", k.D) | _both(f"{corrector}.norm_slots", k.D)
    if k.corrector_mlp:
        mlp = f"{corrector}.mlp.layers"
        found |= _both(f"{mlp}.0", k.D)
        found |= _both(f"{mlp}.1", 4 * k.D, k.D) | _both(f"{mlp}.3", k.D, 4 * k.D)
    if k.video:
        found |= _block(f"processor{wrap}.predictor.blocks.0", k.D)
    return found | (_mixer(decoder, k, *k.mixer) if k.mixer else _mlp_decoder(decoder, k))


def _both(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _vit(at: str, k: Kind) -> Shapes:
    found: Shapes = {
        f"{at}.pos_embed": (1, 1 + k.table, k.F),
        f"{at}.cls_token": (1, 1, k.F),
        **_both(f"{at}.patch_embed.proj", k.F, 3, k.patch, k.patch),
    }
    for i in range(k.depth):
        block = f"{at}.blocks.{i}"
        found |= _both(f"{block}.norm1", k.F) | _both(f"{block}.norm2", k.F)
        found |= _both(f"{block}.attn.qkv", 3 * k.F, k.F) | _both(f"{block}.attn.proj", k.F, k.F)
        found |= _both(f"{block}.mlp.fc1", 4 * k.F, k.F) | _both(f"{block}.mlp.fc2", k.F, 4 * k.F)
        if k.layer_scale:
            found |= {f"{block}.ls1.gamma": (k.F,), f"{block}.ls2.gamma": (k.F,)}
    return found


def _block(at: str, D: int) -> Shapes:
    return {
        **_both(f"{at}.self_attn.qkv", 3 * D, D),
        **_both(f"{at}.self_attn.out_proj", D, D),
        **_both(f"{at}.linear1", 4 * D, D),
        **_both(f"{at}.linear2", D, 4 * D),
        **_both(f"{at}.norm1", D),
        **_both(f"{at}.norm2", D),
    }


def _mlp_decoder(at: str, k: Kind) -> Shapes:
    layers = f"{at}.mlp.layers"
    return {
        f"{at}.pos_emb": (1, 1, k.P, k.D),
        **_both(f"{layers}.0", k.hidden, k.D),
        **_both(f"{layers}.2", k.hidden, k.hidden),
        **_both(f"{layers}.4", k.hidden, k.hidden),
        **_both(f"{layers}.6", k.F + 1, k.hidden),
    }


def _mixer(at: str, k: Kind, blocks: int, renderer: int, channels: int) -> Shapes:
    found: Shapes = {f"{at}.pos_emb": (1, k.P, k.D)}
    for i in range(blocks):
        found |= _block(f"{at}.allocator.blocks.{i}", k.D)
    for name in ("norm_memory", "norm_q", "norm_k"):
        found |= _both(f"{at}.{name}", k.D)
    found |= {f"{at}.to_q.weight": (k.D, k.D), f"{at}.to_k.weight": (k.D, k.D)}
    for i in range(renderer):
        found |= _both(f"{at}.renderer.layers.{2 * i}", k.hidden, k.hidden if i else k.D)
    return found | _both(f"{at}.output_transform", channels, k.hidden)


def random_state(found: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Values of a size that keeps activations near 1, none of them special."""
    draw = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in found.items():
        value = torch.randn(shape, generator=draw)
        if name.endswith(("slots", "mean")):
            state[name] = value
        elif len(shape) > 1:
            state[name] = value * math.prod(shape[1:] if len(shape) > 3 else shape[-1:]) ** -0.5
        else:
            state[name] = 0.1 * value + name.endswith((".gamma", "norm.weight")) * 1.0
        if len(shape) == 1 and name.endswith("weight"):
            state[name] += 1
    return state


def hollow_state(found: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The right shapes in a file of no size: each tensor is one number, repeated."""
    return {name: torch.full((1,), 0.5).expand(shape) for name, shape in found.items()}


def lightning(state: Mapping[str, Tensor], **more: Any) -> dict[str, Any]:
    """What the published trainer writes around the weights."""
    path = pathlib.PosixPath("/logs/checkpoints/step=100000.ckpt")
    kept = {"best_model_path": str(path), "dirpath": path, "last_model_path": "", "kth_value": 0.1}
    return {
        "epoch": 12,
        "global_step": 100000,
        "pytorch-lightning_version": "1.9.5",
        "state_dict": dict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 13}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": kept},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}],
        "lr_schedulers": [{"last_epoch": 100000, "_last_lr": [2e-4]}],
        **more,
    }
