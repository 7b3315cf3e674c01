"""Each slot paints its own image: tile it over a grid, add positions, convolve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einops import rearrange
from torch import Tensor, nn

from slotreel.errors import ConfigError
from slotreel.interfaces import Decoder
from slotreel.layers.checks import at_least
from slotreel.layers.mixing import MixtureReadout
from slotreel.layers.position import coordinate_grid
from slotreel.types import DecoderOutput, Dims, Target


class SpatialBroadcastDecoder(Decoder):
    """Slots on a grid with linear positions, transposed convolutions, softmax over slots.

    Source: Watters et al. 2019, arXiv:1901.07017; layers as in SAVi (Kipf et al. 2022,
    arXiv:2111.12594, appendix). Differs: slots are mixed before the last 1x1 layer, which gives
    the same numbers (see ``MixtureReadout``); ``per="patch"`` targets are ours.

    Pixel targets start from ``base_grid`` and double it, by stride 2 in the first layers, up to
    the image; the layers left over have stride 1. Patch targets start from the patch grid and keep
    it. All layers pad so that a stride of s makes the grid exactly s times as large.

    Args:
        dims: slot width, patch grid and image size at training.
        targets: what to predict: all per pixel or all per patch.
        base_grid: cells the slots are tiled over, one number or (h, w); patch targets ignore it.
        num_layers: transposed convolutions, a ReLU after each; SAVi 4.
        channels: of each; SAVi 64.
        kernel_size: of each, odd; SAVi 5.

    Shapes: slots (B, K, D) -> pred {name: (B, H*W or h*w, width)}, masks (B, K, H*W or h*w).

    Raises:
        ConfigError: pixel and patch targets together, or an image that ``base_grid`` doubled at
            most ``num_layers`` times does not meet.
        ValueError: frames whose grid is no whole multiple of ``base_grid`` at training.
    """

    def __init__(
        self,
        dims: Dims,
        targets: Mapping[str, Target],
        base_grid: int | Sequence[int] = 8,
        num_layers: int = 4,
        channels: int = 64,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        at_least("decoder.num_layers", num_layers, 1, 4)
        at_least("decoder.channels", channels, 1, 64)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ConfigError(
                f"expected decoder.kernel_size odd and at least 3, got {kernel_size}; "
                "type decoder.kernel_size=5"
            )
        kinds = {target.per for target in targets.values()}
        if len(kinds) > 1:
            listed = ", ".join(f"{name} per {target.per}" for name, target in targets.items())
            raise ConfigError(
                f"decoder=spatial_broadcast has one resolution, but the losses want {listed}; "
                "type decoder=mlp"
            )
        self.trained_at, self.per_pixel = dims.grid, "pixel" in kinds
        self.base, num_doubling = dims.grid, 0
        if self.per_pixel:
            pair = (base_grid, base_grid) if isinstance(base_grid, int) else tuple(base_grid)
            self.base, num_doubling = (pair[0], pair[1]), _doublings(pair, dims, num_layers)
        self.scale = 2**num_doubling
        self.position = nn.Linear(2, dims.slot)
        nn.init.xavier_uniform_(self.position.weight)
        nn.init.zeros_(self.position.bias)
        layers: list[nn.Module] = []
        for i in range(num_layers):
            stride = 2 if i < num_doubling else 1
            layers += [
                nn.ConvTranspose2d(
                    dims.slot if i == 0 else channels,
                    channels,
                    kernel_size,
                    stride,
                    padding=kernel_size // 2,
                    output_padding=stride - 1,
                ),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.readout = MixtureReadout(channels, {n: target.width for n, target in targets.items()})

    def forward(
        self,
        slots: Tensor,
        grid: tuple[int, int],
        *,
        positions: Tensor | None = None,
        targets: Tensor | None = None,
        per_slot: bool = False,
    ) -> DecoderOutput:
        """Slots (B, K, D) -> predictions; ``targets`` is for decoders that condition on tokens."""
        base = self._base(grid)
        place = self.position(coordinate_grid(base, like=self.position.weight))
        tiled = slots.flatten(0, 1).unsqueeze(1) + place  # (B*K, h0*w0, D)
        image = self.layers(rearrange(tiled, "bk (h w) d -> bk d h w", h=base[0]))
        x = rearrange(image, "(b k) c h w -> b (h w) k c", k=slots.shape[1])
        if positions is not None:
            x = x[:, positions]
        pred, masks, own = self.readout.mix(x, per_slot)
        return DecoderOutput(pred, masks, (base[0] * self.scale, base[1] * self.scale), own)

    def _base(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Grid the slots are tiled over, for frames of a patch grid.

        Raises:
            ValueError: no whole number of cells.
        """
        if not self.per_pixel:
            return grid
        (h, w), (h1, w1) = self.base, self.trained_at
        if h * grid[0] % h1 or w * grid[1] % w1:
            raise ValueError(
                f"spatial_broadcast was trained at a patch grid of {h1}x{w1} tiled as {h}x{w}; "
                f"expected a grid that scales this to whole cells, got {grid[0]}x{grid[1]}"
            )
        return h * grid[0] // h1, w * grid[1] // w1


def _doublings(base: tuple[int, ...], dims: Dims, num_layers: int) -> int:
    """How often the base grid must double to meet the image.

    Raises:
        ConfigError: it never does within ``num_layers``; names bases or sizes that fit.
    """
    height, width = dims.image_size
    for n in range(num_layers + 1):
        if tuple(side * 2**n for side in base) == (height, width):
            return n
    fits = [
        f"decoder.base_grid=[{height >> n},{width >> n}]"
        for n in range(num_layers, -1, -1)
        if height % 2**n == 0 and width % 2**n == 0
    ]
    raise ConfigError(
        f"decoder=spatial_broadcast doubles base_grid={list(base)} at most {num_layers} times and "
        f"never meets an image of {height}x{width}; type {fits[0]}"
    )
