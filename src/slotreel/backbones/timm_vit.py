"""Pretrained vision transformers of the timm library: DINO, DINOv2, DINOv3, their relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.layers import timm_networks as networks
from slotreel.layers.checks import one_of
from slotreel.layers.frames import Normalise, check_want, in_chunks, patch_grid
from slotreel.layers.freezing import Freezable
from slotreel.layers.position import Resize, check_resize, resize_table
from slotreel.layers.weights import is_random
from slotreel.types import FrameFeatures

Feature = Literal["output", "keys"]


class TimmViT(Freezable):
    """Patch tokens of a block of a vision transformer, by default the last, before the final norm.

    Source: Dosovitskiy et al. 2021 (ViT), weights of Caron et al. 2021 (DINO), Oquab et al. 2024
    (DINOv2), Simeoni et al. 2025 (DINOv3) and others. Differs: class and register tokens are cut
    off; blocks and norms after the feature are dropped, so they are neither stored nor trained;
    DINOv3's rotary periods are timm's in float32, where the release rounds them to bfloat16.

    Args:
        model: name in timm, with the tag of its weights, e.g. ``vit_small_patch16_224.dino``.
        weights: ``hub`` (fetched by that name; needs a network once), ``random``, or a file in
            timm's layout or that of the original releases of DINO, DINOv2, DINOv3 and of networks
            trained with DINO's or the masked autoencoder's code (Silicon Menagerie).
        layer: block whose output is the feature, counted as Python does; -1 is the last.
        feature: what the tokens are: the block's ``output``, or its ``keys``, the middle third of
            its fused qkv, the rest of the block then being dropped (SMTC).
        final_norm: apply the network's final LayerNorm to the feature.
        frozen: features never change; the network stays in evaluation mode.
        frozen_until: with ``frozen=false``, the step from which it is trained.
        position_resize: how the position table meets other grids, see ``layers.position``; rotary
            positions (DINOv3) are computed for each grid and have no table.
        frames_per_call: frames encoded at a time, to bound memory; None takes all.
        mean: per colour; None takes that of the weights.
        std: per colour; None takes that of the weights.
        model_args: further arguments of timm's network, e.g. ``drop_path_rate``.
        image_size: (H, W) at training, checked at once if given.

    Shapes: (B, T, 3, H, W) -> tokens (B, T, h*w, E); keys (B, T, h*w, E), the middle third of that
        block's fused qkv, before any rotation; cls (B, T, E); cls_attention (B, T, heads, h*w),
        which with the prefix tokens' share sums to 1.

    Raises:
        ConfigError: an unknown model, block or feature; frames that are no multiple of the patch.
        CheckpointError: weights that cannot be fetched or belong to another network.
    """

    def __init__(
        self,
        model: str,
        weights: str = "hub",
        layer: int = -1,
        feature: Feature = "output",
        final_norm: bool = False,
        frozen: bool = True,
        frozen_until: int = 0,
        position_resize: Resize = "antialias",
        frames_per_call: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        model_args: Mapping[str, Any] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.position_resize = model, check_resize(position_resize)
        self.vit = networks.create(model, model_args or {})
        cfg = self.vit.pretrained_cfg
        if self.vit.pos_embed is None and position_resize != "antialias":
            raise ConfigError(
                f"backbone.position_resize={position_resize}: {model} has no table of positions to "
                "resize; leave it out"
            )
        if weights == "hub":
            self.vit = networks.fetch(model, model_args or {}, cfg)
            self.origin = f"timm:{model}"
        one_of("backbone.feature", feature, get_args(Feature))
        self.feature = feature
        unused = self._cut(layer, final_norm)
        if weights != "hub" and not is_random(weights, "hub", f"backbone {model}"):
            networks.load(self.vit, weights, unused)
        self.normalise = Normalise(
            cfg["mean"] if mean is None else mean, cfg["std"] if std is None else std
        )
        self.frames_per_call = frames_per_call
        last = self.vit.blocks[-1]
        self._attends = networks.can_project(last)
        self.key_width = last.attn.qkv.out_features // 3 if self._attends else None
        self.feature_width = self.vit.embed_dim
        if feature == "keys" and self.key_width is not None:
            self.feature_width = self.key_width
        self.freeze(frozen, frozen_until)
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
        if self.feature == "keys" and final_norm:
            raise ConfigError(
                "backbone.feature=keys: keys come before the final norm; "
                "type backbone.final_norm=false"
            )
        if self.feature == "keys" and not networks.can_project(self.vit.blocks[layer]):
            raise ConfigError(
                f"backbone.feature=keys: the keys of {self.model} cannot be read; "
                "type backbone.feature=output"
            )
        keep = layer % depth + 1
        self.vit.blocks = self.vit.blocks[:keep]
        self.vit.attn_pool, self.vit.fc_norm = None, nn.Identity()
        self.vit.head = nn.Identity()
        if not final_norm:
            self.vit.norm = nn.Identity()
        dropped = tuple(f"blocks.{i}." for i in range(keep, depth))
        if self.feature == "keys":
            block = f"blocks.{keep - 1}."
            dropped += tuple(block + name for name in networks.keep_keys(self.vit.blocks[-1]))
        return (*networks.UNUSED, *dropped, *(() if final_norm else ("norm.",)))

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w); ConfigError if frames are no multiple of the patch."""
        return patch_grid(image_size, self.vit.patch_embed.patch_size, f"backbone {self.model}")

    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens and the optional features wanted."""
        check_want(want, self._offered(), f"backbone {self.model}")
        grid = self.grid((video.shape[-2], video.shape[-1]))

        def encode(frames: Tensor) -> dict[str, Tensor]:
            return self._encode(frames, grid, want)

        with torch.set_grad_enabled(self.grad_enabled()):
            out = in_chunks(encode, self.normalise(video), self.frames_per_call)
        optional = {name: out.get(name) for name in ("keys", "cls", "cls_attention")}
        return FrameFeatures(out["tokens"], grid, **optional)

    def _offered(self) -> frozenset[str]:
        cls = self.vit.cls_token is not None and self.feature == "output"
        reads = self._attends and self.vit.cls_token is not None
        has = {"keys": self._attends, "cls": cls, "cls_attention": reads}
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
        *earlier, rope = networks.rotations(self.vit, grid)
        for block, code in zip(self.vit.blocks, earlier, strict=False):
            x = networks.run_block(block, x, code)
        last, skip = self.vit.blocks[-1], self.vit.num_prefix_tokens
        out: dict[str, Tensor] = {}
        if self.feature == "keys" or want & {"keys", "cls_attention"}:
            query, key = networks.project(last, x)
            if "keys" in want:
                out["keys"] = key[:, skip:]
            if "cls_attention" in want:
                attention = networks.cls_attention(last.attn, query, key, rope)
                out["cls_attention"] = attention[..., skip:]
        if self.feature == "keys":
            return {**out, "tokens": key[:, skip:]}
        x = self.vit.norm(networks.run_block(last, x, rope))
        out["tokens"] = x[:, skip:]
        if "cls" in want:
            out["cls"] = x[:, 0]
        return out
