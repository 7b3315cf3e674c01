"""A small vision transformer whose weights come with the package: frozen features offline."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from slotreel.errors import CheckpointError, ConfigError
from slotreel.layers.frames import Normalise, check_want, in_chunks, patch_grid
from slotreel.layers.freezing import Freezable
from slotreel.layers.position import cell_centres, sincos
from slotreel.layers.weights import find_network, is_random, load_all, read_tensors
from slotreel.types import FrameFeatures

LANDMARK = "embed.weight"
CELLS = 16  # the image spans as many units of position on every grid


def shipped_weights() -> Path:
    """Where the package keeps the trained weights."""
    return Path(str(resources.files("slotreel") / "weights" / "tiny_vit.safetensors"))


class TinyViT(Freezable):
    """Patches, sine-cosine positions, a few pre-norm transformer blocks and a final LayerNorm.

    Source: Dosovitskiy et al. 2021 (ViT), equations 1-4.
    Differs: no class token; positions are computed for the grid at hand and span the same range on
    each, so that any size works without a table.

    Args:
        patch_size: side of a patch in pixels.
        width: of tokens, E; a multiple of 4 and of num_heads.
        depth: number of blocks.
        num_heads: of each attention.
        mlp_ratio: hidden width of the block's MLP over width.
        weights: ``shipped`` (in the package), ``random``, or a file.
        frozen: features never change; the network stays in evaluation mode.
        frozen_until: with ``frozen=false``, the step from which it is trained.
        mean: subtracted from pixels in [0, 1].
        std: divided by.
        frames_per_call: frames encoded at a time, to bound memory; None takes all.
        image_size: (H, W) at training, checked at once if given.

    Shapes: (B, T, 3, H, W) -> tokens (B, T, h*w, width); keys of the last block likewise.

    Raises:
        ConfigError: widths that do not divide, frames that are no multiple of the patch.
        CheckpointError: the weights are missing or belong to another network.
    """

    def __init__(
        self,
        patch_size: int = 8,
        width: int = 128,
        depth: int = 4,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        weights: str = "shipped",
        frozen: bool = True,
        frozen_until: int = 0,
        mean: float = 0.5,
        std: float = 0.25,
        frames_per_call: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if width % 4 or width % num_heads or depth < 1:
            raise ConfigError(
                f"expected backbone.width in multiples of 4 and of num_heads={num_heads}, and a "
                f"depth of at least 1; got width={width}, depth={depth}; "
                "type backbone.width=128 backbone.num_heads=4 backbone.depth=4"
            )
        self.patch_size, self.feature_width, self.key_width = patch_size, width, width
        self.frames_per_call = frames_per_call
        self.normalise = Normalise(mean, std)
        self.embed = nn.Conv2d(3, width, patch_size, patch_size)
        self.blocks: Any = nn.ModuleList(
            Block(width, num_heads, mlp_ratio=mlp_ratio, qkv_bias=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialise()
        self.origin = "package:tiny_vit" if weights == "shipped" else None
        if not is_random(weights, "shipped", "backbone=tiny_vit"):
            self._load(weights)
        self.freeze(frozen, frozen_until)
        if image_size is not None:
            self.grid(image_size)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _load(self, weights: str) -> None:
        path = shipped_weights() if weights == "shipped" else Path(weights).expanduser()
        if weights == "shipped" and not path.is_file():
            raise CheckpointError(
                f"expected the shipped weights at {path}, found none; create them with "
                "./train.py experiment=tiny_vit, or type backbone.weights=random"
            )
        load_all(self, find_network(read_tensors(path), LANDMARK, str(path)), str(path))

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w); ConfigError if frames are no multiple of the patch."""
        return patch_grid(image_size, (self.patch_size, self.patch_size), "backbone=tiny_vit")

    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens, and keys if wanted."""
        check_want(want, frozenset({"keys"}), "backbone=tiny_vit")
        grid = self.grid((video.shape[-2], video.shape[-1]))

        def encode(frames: Tensor) -> dict[str, Tensor]:
            return self.encode_tokens(self.embed_patches(frames), keys="keys" in want)

        with torch.set_grad_enabled(self.grad_enabled()):
            out = in_chunks(encode, video, self.frames_per_call)
        return FrameFeatures(out["tokens"], grid, keys=out.get("keys"))

    def embed_patches(self, frames: Tensor) -> Tensor:
        """Frames (n, 3, H, W) in [0, 1] -> patches with their positions (n, h*w, E)."""
        grid = self.grid((frames.shape[-2], frames.shape[-1]))
        x = self.embed(self.normalise(frames)).flatten(2).transpose(1, 2)
        position = sincos((cell_centres(grid, like=x) + 1) * (CELLS / 2), self.feature_width)
        return x + position.to(x.dtype)

    def encode_tokens(self, x: Tensor, keys: bool = False) -> dict[str, Tensor]:
        """Embedded patches (n, M, E), all of a frame or some -> tokens, and keys if asked for."""
        out: dict[str, Tensor] = {}
        for i, block in enumerate(self.blocks):
            if keys and i == len(self.blocks) - 1:
                out["keys"] = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[1]
            x = block(x)
        out["tokens"] = self.norm(x)
        return out
