"""Slots must explain the frame's pixels."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.layers.precision import at_least_float32
from slotreel.layers.scores import explained
from slotreel.types import Dims, Needs, Target


class PixelRecLoss(Loss):
    """Mean squared error between decoded slots and the frame in [0, 1].

    Source: Locatello et al. 2020, arXiv:2006.15055. Differs: the mean runs over clips,
    frames, pixels and colours; SAVi and STEVE sum over pixels.

    A decoder on a coarser grid gives each cell's pixels as channels ordered (colour, row, column).
    Logs ``pixel_rec_r2`` (1 - error / variance about the mean colour) and ``psnr`` (decibels).

    Args:
        dims: image size at training.
        weight: of the term.
        level: which slots to decode, see ``ModelOutput.level``.

    Shapes: slots (B, T, K, D), views[0] (B, T, 3, H, W) -> scalar.

    Raises:
        ValueError: the decoder's cells do not tile the frame.
    """

    def __init__(self, dims: Dims, weight: float = 1.0, level: str = "auto") -> None:
        super().__init__(weight)
        self.level = level

    @property
    def needs(self) -> Needs:
        """Three colours per pixel."""
        return Needs(decode={"pixels": Target(3, "pixel")})

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of views[0]."""
        output = ctx.decode(ctx.student[0].level(self.level))
        frames = at_least_float32(ctx.batch.views[0]).flatten(0, 1)
        pred = to_image(at_least_float32(output.pred["pixels"]), output.grid, frames)
        error = F.mse_loss(pred, frames)
        r2 = explained(error, frames.movedim(1, -1))
        return error, {"pixel_rec_r2": r2, "psnr": -10 * error.detach().log10()}


def to_image(cells: Tensor, grid: tuple[int, int], like: Tensor) -> Tensor:
    """Cells (B, h*w, C*y*x), channels ordered (colour, row, column) -> image (B, C, H, W).

    Raises:
        ValueError: they do not tile an image of the size of ``like``.
    """
    colours, height, width = like.shape[1:]
    (h, w), (y, x) = grid, (height // grid[0], width // grid[1])
    expected = (len(like), h * w, colours * y * x)
    if tuple(cells.shape) != expected or (h * y, w * x) != (height, width):
        raise ValueError(
            f"pixel_rec expects cells of shape {expected} that tile {height}x{width} pixels, got "
            f"{tuple(cells.shape)} on a grid of {h}x{w}; decode frames of the size of training"
        )
    return rearrange(cells, "b (h w) (c y x) -> b c (h y) (w x)", h=h, w=w, y=y, x=x)
