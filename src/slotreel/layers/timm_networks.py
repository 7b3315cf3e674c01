"""timm's vision transformers: made by name, fetched, filled from files, read inside a block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from einops import rearrange
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from slotreel.errors import CheckpointError, ConfigError, nearest
from slotreel.layers.weights import find_network, load_all, read_tensors

LANDMARK = "patch_embed.proj.weight"
RESERVED = ("patch_drop_rate", "dynamic_img_size", "dynamic_img_pad", "num_classes", "in_chans")
# Parts of published files that no feature depends on; decoder_ is the masked autoencoder's,
# local_cls_norm belongs to the small crops with which some of DINOv3's networks were trained.
UNUSED = (
    "mask_token", "head.", "head_dist.", "fc_norm.", "attn_pool.", "decoder_", "local_cls_norm.",
)  # fmt: skip
# Names in the original releases -> timm's.
DINOV2 = {"register_tokens": "reg_token", ".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
DINOV3 = {
    "storage_tokens": "reg_token",
    ".ls1.gamma": ".gamma_1",
    ".ls2.gamma": ".gamma_2",
    ".mlp.w1.": ".mlp.fc1_g.",
    ".mlp.w2.": ".mlp.fc1_x.",
    ".mlp.w3.": ".mlp.fc2.",
}


def create(model: str, model_args: Mapping[str, Any]) -> Any:
    """The network of that name in timm with random weights, for frames of any size.

    Raises:
        ConfigError: no such model, not a plain vision transformer, or arguments it does not take.
    """
    reserved = sorted(set(model_args) & set(RESERVED))
    if reserved:
        raise ConfigError(f"backbone.model_args cannot set {reserved}; leave them out")
    if not timm.is_model(model):
        names = timm.list_models(module=["vision_transformer", "eva"], pretrained=True)
        raise ConfigError(f"timm has no model {model}; {nearest(model, names)}")
    try:
        vit = timm.create_model(model, num_classes=0, dynamic_img_size=True, **model_args)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"expected a timm vision transformer; building {model} with {model_args} gives: {error}"
        ) from error
    if type(vit) not in (VisionTransformer, Eva):
        raise ConfigError(
            f"expected a timm VisionTransformer or Eva, {model} is a {type(vit).__name__}; "
            "type backbone.model=vit_small_patch14_dinov2.lvd142m"
        )
    return vit


def fetch(model: str, model_args: Mapping[str, Any], cfg: Mapping[str, Any]) -> Any:
    """The same network with the weights of its name, from timm's hub or this machine's cache.

    Args:
        model: name in timm, with the tag of its weights.
        model_args: further arguments of the network.
        cfg: timm's facts of the weights, for the error.

    Raises:
        CheckpointError: they cannot be had; says where they are and what to type.
    """
    try:
        return timm.create_model(
            model, pretrained=True, num_classes=0, dynamic_img_size=True, **model_args
        )
    except Exception as error:  # every network library has its own
        hub, url = cfg.get("hf_hub_id"), cfg.get("url")
        hub = f"https://huggingface.co/{hub}/resolve/main/model.safetensors" if hub else None
        commands = " or ".join(f"curl -LO {place}" for place in (hub, url) if place)
        raise CheckpointError(
            f"could not fetch the weights of {model} ({type(error).__name__}: {error}); get "
            f"them where there is a network ({commands or 'timm names no address'}), then type "
            "backbone.weights=FILE; or type backbone.weights=random for an untrained network"
        ) from error


def load(vit: nn.Module, path: str, unused: tuple[str, ...]) -> None:
    """Fill the network from a file in timm's layout or that of an original release.

    Source: the layouts of DINO, DINOv2 and DINOv3 as timm's own conversions read them.
    Differs: nothing is resized, and what neither side knows is refused by name.

    Args:
        vit: whose parameters are filled.
        path: a .safetensors or torch file.
        unused: beginnings of names (timm's) that the file may have and the network no longer has.

    Raises:
        CheckpointError: the file cannot be read, or belongs to another network.
    """
    tensors = find_network(read_tensors(path), LANDMARK, path)
    rotary = isinstance(vit, Eva)
    separate = "register_tokens" in tensors and getattr(vit, "no_embed_class", False)
    for old, new in (DINOV3 if rotary else DINOV2).items():
        tensors = {k.replace(old, new): v for k, v in tensors.items()}
    if separate and {"pos_embed", "cls_token"} <= tensors.keys():  # timm adds it to the token
        tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:, :1]
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    if rotary:
        tensors = {k: v for k, v in tensors.items() if not k.endswith((".periods", ".bias_mask"))}
        tensors = _divide_biases(tensors, vit.state_dict(), path, unused)
    load_all(vit, tensors, path, unused)


def _divide_biases(
    tensors: dict[str, Tensor], own: Mapping[str, Tensor], path: str, unused: tuple[str, ...]
) -> dict[str, Tensor]:
    """Biases of a fused qkv as timm's q_bias and v_bias; the release masks the key's third."""
    out = {k: v for k, v in tensors.items() if not k.endswith(".qkv.bias") or k in own}
    for name in tensors.keys() - out.keys():
        query, _, value = tensors[name].chunk(3)
        query_name, value_name = (name.replace("qkv.bias", f"{x}_bias") for x in "qv")
        if query_name in own:
            out |= {query_name: query, value_name: value}
        elif not name.startswith(unused) and (query.any() or value.any()):
            raise CheckpointError(
                f"{path}: {name} is not 0 and the network has no such bias; choose the model with "
                "biases, e.g. backbone.model=vit_small_patch16_dinov3_qkvb.lvd1689m"
            )
    return out


def rotations(vit: Any, grid: tuple[int, int]) -> list[Tensor | None]:
    """Each block's rotary code of the grid (h, w); None where positions are not rotary."""
    if getattr(vit, "rope", None) is None:
        return [None] * len(vit.blocks)
    rope = vit.rope.get_embed(shape=list(grid))
    return list(rope[: len(vit.blocks)]) if vit.rope_mixed else [rope] * len(vit.blocks)


def run_block(block: nn.Module, x: Tensor, rope: Tensor | None) -> Tensor:
    """Tokens (n, prefix + h*w, E) through a block."""
    out: Tensor = block(x) if rope is None else block(x, rope=rope)
    return out


def can_project(block: Any) -> bool:
    """Whether queries and keys can be read: the norm comes first and one layer makes both."""
    return type(block) in (Block, EvaBlock) and getattr(block.attn, "qkv", None) is not None


def keep_keys(block: nn.Module) -> list[str]:
    """Drop from a block what its keys do not need; returns the names of the dropped parameters."""
    kept = ("norm1.", "attn.qkv.", "attn.q_", "attn.k_", "attn.v_")
    dropped = [name for name, _ in block.named_parameters() if not name.startswith(kept)]
    for name in dropped:
        owner, _, leaf = name.rpartition(".")
        block.get_submodule(owner).register_parameter(leaf, None)
    return dropped


def project(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (n, prefix + h*w, E) of a block, before any norm and rotation of theirs."""
    query, key, _ = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
    bias = getattr(block.attn, "q_bias", None)  # kept apart by Eva, whose keys have none
    return (query if bias is None else query + bias), key


def cls_attention(attention: Any, query: Tensor, key: Tensor, rope: Tensor | None) -> Tensor:
    """Weights (n, heads, tokens) with which the first token attends to all."""
    q, k = (rearrange(t, "n s (m d) -> n m s d", m=attention.num_heads) for t in (query, key))
    q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
    if rope is not None:  # the prefix, and with it the first token, stays as it is
        skip = attention.num_prefix_tokens
        cells = apply_rot_embed_cat(k[:, :, skip:], rope, half=attention.rotate_half)
        k = torch.cat([k[:, :, :skip], cells], dim=2)
    return (q * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1).squeeze(2)
