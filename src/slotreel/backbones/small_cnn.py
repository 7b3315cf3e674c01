"""The convolutional encoder of SAVi."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Backbone
from slotreel.layers.frames import check_want, patch_grid
from slotreel.layers.init import lecun_normal_
from slotreel.types import FrameFeatures


class SmallCNN(Backbone):
    """A few convolutions, each followed by a ReLU, trained with everything else.

    Source: Kipf et al. 2022 (SAVi), appendix, CNN backbone of SAVi-S and SAVi-M.
    Differs: frames must be a multiple of the product of strides, so that cells are equal.

    Padding is SAME: half of it before (rounded down), the rest after, which for an even size and
    stride 2 is one pixel before and two after. Frames stay in [0, 1].

    Args:
        channels: outputs of each layer; SAVi-S 32 four times, SAVi-M 64 four times.
        strides: of each layer; SAVi-S 1, 1, 1, 1, SAVi-M 2, 1, 1, 1.
        kernel_size: side of the kernels.
        image_size: (H, W) at training, checked at once if given.

    Shapes: (B, T, 3, H, W) -> tokens (B, T, h*w, channels[-1]) with h = H / prod(strides).

    Raises:
        ConfigError: lists of unequal length, or frames that are no multiple of the strides.
    """

    frozen = False

    def __init__(
        self,
        channels: Sequence[int] = (32, 32, 32, 32),
        strides: Sequence[int] = (1, 1, 1, 1),
        kernel_size: int = 5,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if not channels or len(channels) != len(strides):
            raise ConfigError(
                f"expected one stride per layer, got channels={list(channels)} and "
                f"strides={list(strides)}; type backbone.strides={[1] * len(channels)}"
            )
        widths = [3, *channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel_size, stride)
            for i, stride in enumerate(strides)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            lecun_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.kernel_size, self.strides = kernel_size, tuple(strides)
        self.feature_width = channels[-1]
        if image_size is not None:
            self.grid(image_size)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Grid (h, w); ConfigError if frames are no multiple of the product of strides."""
        step = math.prod(self.strides)
        return patch_grid(image_size, (step, step), "backbone=small_cnn")

    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens; nothing else to ask for."""
        check_want(want, frozenset(), "backbone=small_cnn")
        h, w = self.grid((video.shape[-2], video.shape[-1]))
        x = video.flatten(0, 1)
        for layer, stride in zip(self.layers, self.strides, strict=True):
            x = F.relu(layer(_pad_same(x, self.kernel_size, stride)))
        tokens = rearrange(x, "(b t) c h w -> b t (h w) c", b=len(video))
        return FrameFeatures(tokens, (h, w))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around x (n, C, H, W) such that a convolution gives ceil(size / stride)."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):  # F.pad counts axes from the last
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)
