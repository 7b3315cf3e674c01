"""Pretrains a small backbone: guess the pixels of hidden patches from those that are left."""

from __future__ import annotations

import torch
from einops import rearrange
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from slotreel.backbones.tiny_vit import CELLS, TinyViT
from slotreel.errors import ConfigError
from slotreel.interfaces import Backbone, Objective, Stream
from slotreel.layers.checks import at_least, heads_divide
from slotreel.layers.position import cell_centres, sincos
from slotreel.noise import Noise
from slotreel.types import (
    Batch,
    FrameFeatures,
    LossOutput,
    MaskSource,
    Progress,
    VideoInfo,
)

EPSILON = 1e-6  # added to the variance of a patch


class MaskedAutoencoder(Objective):
    """Encodes the visible patches of each frame and paints the hidden ones.

    Source: He et al. 2022 (arXiv:2111.06377), sections 3 and 4.1.
    Differs: frames of a clip are masked and encoded one by one, each with a mask of its own; the
    backbone is TinyViT, so there is no class token and the grid may be any; positions are computed
    and not stored; the decoder has one block as delivered.

    Args:
        backbone: the TinyViT to train, not frozen.
        noise: root of every draw.
        image_size: (H, W) at training.
        mask_ratio: share of patches that are hidden.
        decoder_width: of the decoder's tokens; a multiple of 4 and of decoder_heads.
        decoder_depth: its blocks.
        decoder_heads: of each attention.
        normalise_target: predict (pixel - mean) / std of each patch, else plain pixels in [0, 1].

    Raises:
        ConfigError: another backbone or a frozen one, a ratio that hides nothing or everything.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        noise: Noise,
        image_size: tuple[int, int],
        mask_ratio: float = 0.75,
        decoder_width: int = 64,
        decoder_depth: int = 1,
        decoder_heads: int = 4,
        normalise_target: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, TinyViT) or backbone.frozen:
            raise ConfigError(
                "model=masked_autoencoder trains a TinyViT and nothing else; type "
                "backbone=tiny_vit backbone.weights=random backbone.frozen=false"
            )
        if decoder_width % 4:
            raise ConfigError(
                f"expected model.decoder_width in multiples of 4, got {decoder_width}; "
                f"type model.decoder_width={max(decoder_width // 4, 1) * 4}"
            )
        heads_divide("model.decoder_heads", decoder_width, decoder_heads)
        at_least("model.decoder_depth", decoder_depth, 1, 1)
        h, w = backbone.grid(image_size)
        self.num_hidden = round(mask_ratio * h * w)
        if not 0 < self.num_hidden < h * w:
            raise ConfigError(
                f"model.mask_ratio={mask_ratio} hides {self.num_hidden} of {h * w} patches; "
                "type model.mask_ratio=0.75"
            )
        self.backbone, self.noise = backbone, noise
        self.normalise_target = normalise_target
        self.decoder_width, patch = decoder_width, backbone.patch_size
        self.narrow = nn.Linear(backbone.feature_width, decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(decoder_width))
        self.decoder = nn.Sequential(
            *(Block(decoder_width, decoder_heads, qkv_bias=True) for _ in range(decoder_depth)),
            nn.LayerNorm(decoder_width, eps=1e-6),
            nn.Linear(decoder_width, 3 * patch**2),
        )

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Mean squared error of the hidden patches of every frame."""
        video = batch.views[0]
        noise = self.noise.child("train", progress.step, 0).piece(progress.micro, progress.micros)
        order = self.shuffle(video, noise)
        error = self.errors(video.flatten(0, 1), order).mean()
        return LossOutput(error, {"masked": error}, {"masked": error}, {})

    def shuffle(self, video: Tensor, noise: Noise) -> Tensor:
        """Patches of each frame in random order (B*T, N); the first ``num_hidden`` are hidden."""
        h, w = self.backbone.grid((video.shape[-2], video.shape[-1]))
        draw = noise.uniform("mask", (*video.shape[:2], h * w), like=video.float())
        return draw.flatten(0, 1).argsort(dim=-1, stable=True)

    def errors(self, frames: Tensor, order: Tensor) -> Tensor:
        """Squared error of each hidden patch, mean over its pixels.

        Args:
            frames: (n, 3, H, W) in [0, 1].
            order: patches of each frame (n, N), hidden ones first.

        Returns:
            (n, num_hidden).
        """
        hidden, visible = order.split([self.num_hidden, order.shape[1] - self.num_hidden], dim=1)
        tokens = self.backbone.encode_tokens(_take(self.backbone.embed_patches(frames), visible))
        painted = self._paint(tokens["tokens"], order, (frames.shape[-2], frames.shape[-1]))
        return (painted - _take(self.targets(frames), hidden)).square().mean(-1)

    def _paint(self, tokens: Tensor, order: Tensor, size: tuple[int, int]) -> Tensor:
        """Tokens of visible patches (n, M, E) -> pixels of hidden ones (n, num_hidden, 3*p*p)."""
        seen = self.narrow(tokens)
        blank = self.mask_token.to(seen.dtype).expand(len(seen), self.num_hidden, -1)
        x = torch.cat([blank, seen], dim=1)  # in the order of ``order``
        centres = (cell_centres(self.backbone.grid(size), like=x) + 1) * (CELLS / 2)
        x = x + sincos(centres, self.decoder_width).to(x.dtype)[order]
        return self.decoder(x)[:, : self.num_hidden]

    def targets(self, frames: Tensor) -> Tensor:
        """What each patch (n, N, 3*p*p) ought to be painted as."""
        p = self.backbone.patch_size
        pixels = rearrange(frames, "n c (h p) (w q) -> n (h w) (c p q)", p=p, q=p)
        if not self.normalise_target:
            return pixels
        mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
        return (pixels - mean) / (variance + EPSILON).sqrt()

    def features(self, batch: Batch) -> FrameFeatures:
        """Backbone features of the batch's first view, nothing hidden."""
        return self.backbone(batch.views[0])

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Refused: the model says nothing about objects.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "model=masked_autoencoder has no masks to score or draw; train it with validate=none, "
            "then judge its features with ./eval.py model=feature_kmeans backbone=tiny_vit "
            "backbone.weights=FILE"
        )


def _take(x: Tensor, which: Tensor) -> Tensor:
    """Entries (n, M) of each row of (n, N, width) -> (n, M, width)."""
    return x.gather(1, which.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
