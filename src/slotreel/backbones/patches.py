"""Patch pixels as tokens: the default backbone, without parameters."""

from __future__ import annotations

from einops import rearrange, reduce
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Backbone
from slotreel.layers.frames import Normalise, check_want, patch_grid
from slotreel.types import FrameFeatures


class PatchPixels(Backbone):
    """Tokens are the normalised pixels of each patch, averaged over areas if asked.

    Source: none; the patches of Dosovitskiy et al. 2021 (ViT), equation 1, before the projection.
    Differs: no embedding and no position, so that the tokens may serve as targets.

    Value ``(y * samples + x) * 3 + c`` of token ``i * w + j`` is colour ``c`` of area (y, x), rows
    first, of the patch in row ``i`` and column ``j``.

    Args:
        patch_size: side of a patch in pixels.
        samples: a patch is averaged to samples x samples areas; None keeps every pixel.
        mean: subtracted from pixels in [0, 1].
        std: divided by.
        image_size: (H, W) at training, checked at once if given.

    Shapes: (B, T, 3, H, W) -> tokens (B, T, h*w, 3 * samples**2) with h = H / patch_size.

    Raises:
        ConfigError: frames are no multiple of the patch, or samples does not divide it.
    """

    def __init__(
        self,
        patch_size: int = 8,
        samples: int | None = None,
        mean: float = 0.5,
        std: float = 0.25,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        samples = patch_size if samples is None else samples
        if not 0 < samples <= patch_size or patch_size % samples:
            fits = [n for n in range(1, patch_size + 1) if patch_size % n == 0]
            raise ConfigError(
                f"backbone.samples={samples} must divide backbone.patch_size={patch_size}; "
                f"type one of backbone.samples={fits}"
            )
        self.patch_size, self.samples = patch_size, samples
        self.normalise = Normalise(mean, std)
        self.feature_width = 3 * samples**2
        if image_size is not None:
            self.grid(image_size)

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patch grid (h, w); ConfigError if frames are no multiple of the patch."""
        return patch_grid(image_size, (self.patch_size, self.patch_size), "backbone=patches")

    def forward(self, video: Tensor, want: frozenset[str] = frozenset()) -> FrameFeatures:
        """Video (B, T, 3, H, W) in [0, 1] -> tokens; nothing else to ask for."""
        check_want(want, frozenset(), "backbone=patches")
        h, w = self.grid((video.shape[-2], video.shape[-1]))
        area = self.patch_size // self.samples
        pixels = self.normalise(video)
        if area > 1:
            pixels = reduce(pixels, "b t c (y p) (x q) -> b t c y x", "mean", p=area, q=area)
        tokens = rearrange(pixels, "b t c (h y) (w x) -> b t (h w) (y x c)", h=h, w=w)
        return FrameFeatures(tokens, (h, w))
