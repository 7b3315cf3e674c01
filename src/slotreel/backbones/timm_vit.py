"""Pretrained vision transformers of the timm library: DINO, DINOv2 and their relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from einops import rearrange
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from slotreel.errors import CheckpointError, ConfigError, nearest
from slotreel.interfaces import Backbone
from slotreel.layers.frames import Normalise, check_want, in_chunks, patch_grid
from slotreel.layers.position import Resize, check_resize, resize_table
from slotreel.layers.weights import find_network, is_random, load_all, read_tensors
from slotreel.types import FrameFeatures

LANDMARK = "patch_embed.proj.weight"
# Parts of published files that no feature depends on.
UNUSED = ("mask_token", "head.", "head_dist.", "fc_norm.", "attn_pool.")
RESERVED = ("patch_drop_rate", "dynamic_img_size", "dynamic_img_pad", "num_classes", "in_chans")


class TimmViT(Backbone):
    """Patch tokens of a block of a vision transformer, by default the last, before the final norm.

    Source: Dosovitskiy et al. 2021 (ViT), weights of Caron et al. 2021 (DINO), Oquab et al. 2024
    (DINOv2) and others. Differs: class and register tokens are cut off; blocks and norms after the
    feature are dropped, so they are neither stored nor trained.

    Args:
        model: name in timm, with the tag of its weights, e.g. ``vit_small_patch16_224.dino``.
        weights: ``hub`` (fetched by that name; needs a network once), ``random``, or a file in
            timm's layout or that of the original DINO and DINOv2 releases.
        layer: block whose output is the feature, counted as Python does; -1 is the last.
        final_norm: apply the network's final LayerNorm to the feature.
        frozen: features never change; the network stays in evaluation mode.
        position_resize: how the position table meets other grids, see ``layers.position``.
        frames_per_call: frames encoded at a time, to bound memory; None takes all.
        mean: per colour; None takes that of the weights.
        std: per colour; None takes that of the weights.
        model_args: further arguments of timm's VisionTransformer, e.g. ``drop_path_rate``.
        image_size: (H, W) at training, checked at once if given.

    Shapes: (B, T, 3, H, W) -> tokens (B, T, h*w, E); keys (B, T, h*w, E), the middle third of that
        block's fused qkv; cls (B, T, E); cls_attention (B, T, heads, h*w), which with the prefix
        tokens' share sums to 1.

    Raises:
        ConfigError: an unknown model, block or feature; frames that are no multiple of the patch.
        CheckpointError: weights that cannot be fetched or belong to another network.
    """

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        layer: int = -1,
        final_norm: bool = False,
        frozen: bool = True,
        position_resize: Resize = "antialias",
        frames_per_call: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        model_args: Mapping[str, Any] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.position_resize = model, check_resize(position_resize)
        vit = _create(model, dict(model_args or {}))
        cfg = vit.pretrained_cfg
        self.origin = f"timm:{model}" if weights == "hub" else None
        self.vit = _fetch(model, dict(model_args or {}), cfg) if weights == "hub" else vit
        unused = self._cut(layer, final_norm)
        if weights != "hub" and not is_random(weights, "hub", f"backbone {model}"):
            _load(self.vit, weights, unused)
        self.normalise = Normalise(
            cfg["mean"] if mean is None else mean, cfg["std"] if std is None else std
        )
        self.feature_width = self.vit.embed_dim
        self.frames_per_call = frames_per_call
        last = self.vit.blocks[-1]
        self._attends = type(last) is Block and hasattr(last.attn, "qkv")
        self.key_width = last.attn.qkv.out_features // 3 if self._attends else None
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False).eval()
        self.grid(self.vit.patch_embed.img_size if image_size is None else image_size)

    def _cut(self, layer: int, final_norm: bool) -> tuple[str, ...]:
        """Drop what comes after the feature; returns how names of the dropped parameters begin."""
        depth = len(self.vit.blocks)
        if not -depth <= layer < depth:
            raise ConfigError(
                f"backbone.layer={layer}: {self.model} has {depth} blocks; "
                f"type backbone.layer=-1 for the last, or 0 to {depth - 1}"
            )
        if final_norm and isinstance(self.vit.norm, nn.Identity):
            raise ConfigError(
                f"backbone.final_norm=true: {self.model} has no norm per token; "
                "type backbone.final_norm=false"
            )
        keep = layer % depth + 1
        self.vit.blocks = self.vit.blocks[:keep]
        self.vit.attn_pool, self.vit.fc_norm = None, nn.Identity()
        self.vit.head = nn.Identity()
        if not final_norm:
            self.vit.norm = nn.Identity()
        dropped = tuple(f"blocks.{i}." for i in range(keep, depth))
        return (*UNUSED, *dropped, *(() if final_norm else ("norm.",)))

    def train(self, mode: bool = True) -> TimmViT:
        """Training mode, which a frozen network never enters."""
        super().train(mode and not self.frozen)
        return self

    def without_gradient(self) -> set[str]:
        """Everything if frozen."""
        return {name for name, _ in self.named_parameters()} if self.frozen else set()

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w); ConfigError if frames are no multiple of the patch."""
        return patch_grid(image_size, self.vit.patch_embed.patch_size, f"backbone {self.model}")

    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens and the optional features wanted."""
        check_want(want, self._offered(), f"backbone {self.model}")
        grid = self.grid((video.shape[-2], video.shape[-1]))

        def encode(frames: Tensor) -> dict[str, Tensor]:
            return self._encode(frames, grid, want)

        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            out = in_chunks(encode, self.normalise(video), self.frames_per_call)
        optional = {name: out.get(name) for name in ("keys", "cls", "cls_attention")}
        return FrameFeatures(out["tokens"], grid, **optional)

    def _offered(self) -> frozenset[str]:
        cls = self.vit.cls_token is not None
        has = {"keys": self._attends, "cls": cls, "cls_attention": cls and self._attends}
        return frozenset(name for name, yes in has.items() if yes)

    def _embed(self, frames: Tensor, grid: tuple[int, int]) -> Tensor:
        """Frames (n, 3, H, W) -> tokens (n, prefix + h*w, E) with positions."""
        vit = self.vit
        x = vit.patch_embed(frames).flatten(1, 2)
        prefix = [t.expand(len(x), -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None]
        table: Tensor | None = vit.pos_embed
        if table is not None:
            skip = 0 if vit.no_embed_class else vit.num_prefix_tokens
            native = vit.patch_embed.grid_size
            table = resize_table(table, native, grid, num_prefix=skip, how=self.position_resize)
        if table is not None and vit.no_embed_class:
            x = x + table
        x = torch.cat([*prefix, x], dim=1)
        if table is not None and not vit.no_embed_class:
            x = x + table
        return vit.norm_pre(vit.pos_drop(x))

    def _encode(
        self, frames: Tensor, grid: tuple[int, int], want: frozenset[str]
    ) -> dict[str, Tensor]:
        x = self._embed(frames, grid)
        for block in self.vit.blocks[:-1]:
            x = block(x)
        last, skip = self.vit.blocks[-1], self.vit.num_prefix_tokens
        out: dict[str, Tensor] = {}
        if want & {"keys", "cls_attention"}:
            query, key, _ = last.attn.qkv(last.norm1(x)).chunk(3, dim=-1)
            if "keys" in want:
                out["keys"] = key[:, skip:]
            if "cls_attention" in want:
                out["cls_attention"] = _cls_attention(last.attn, query, key)[..., skip:]
        x = self.vit.norm(last(x))
        out["tokens"] = x[:, skip:]
        if "cls" in want:
            out["cls"] = x[:, 0]
        return out


def _cls_attention(attention: Any, query: Tensor, key: Tensor) -> Tensor:
    """Weights (n, heads, tokens) with which the first token attends to all."""
    q, k = (rearrange(t, "n s (m d) -> n m s d", m=attention.num_heads) for t in (query, key))
    q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
    return (q * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1).squeeze(2)


def _create(model: str, model_args: dict[str, Any]) -> Any:
    reserved = sorted(set(model_args) & set(RESERVED))
    if reserved:
        raise ConfigError(f"backbone.model_args cannot set {reserved}; leave them out")
    if not timm.is_model(model):
        names = timm.list_models(module="vision_transformer", pretrained=True)
        raise ConfigError(f"timm has no model {model}; {nearest(model, names)}")
    try:
        vit = timm.create_model(model, num_classes=0, dynamic_img_size=True, **model_args)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"expected a timm vision transformer; building {model} with {model_args} gives: {error}"
        ) from error
    if type(vit) is not VisionTransformer:
        raise ConfigError(
            f"expected a timm VisionTransformer, {model} is a {type(vit).__name__}; "
            "type backbone.model=vit_small_patch14_dinov2.lvd142m"
        )
    return vit


def _fetch(model: str, model_args: dict[str, Any], cfg: Mapping[str, Any]) -> Any:
    try:
        return timm.create_model(
            model, pretrained=True, num_classes=0, dynamic_img_size=True, **model_args
        )
    except Exception as error:  # every network library has its own
        hub, url = cfg.get("hf_hub_id"), cfg.get("url")
        hub = f"https://huggingface.co/{hub}/resolve/main/model.safetensors" if hub else None
        places = " or ".join(place for place in (hub, url) if place) or "the authors' page"
        raise CheckpointError(
            f"could not fetch the weights of {model} ({type(error).__name__}: {error}); fetch "
            f"{places} where there is a network, then type backbone.weights=FILE; or type "
            "backbone.weights=random for an untrained network"
        ) from error


def _load(vit: VisionTransformer, path: str, unused: tuple[str, ...]) -> None:
    tensors = find_network(read_tensors(path), LANDMARK, path)
    # DINOv2: gated MLPs have other names; with registers, the class token has its position apart.
    gated = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    for old, new in gated.items():
        tensors = {k.replace(old, new): v for k, v in tensors.items()}
    if "register_tokens" in tensors:
        tensors["reg_token"] = tensors.pop("register_tokens")
        if vit.no_embed_class and {"pos_embed", "cls_token"} <= tensors.keys():
            tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:, :1]
            tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    load_all(vit, tensors, path, unused)
