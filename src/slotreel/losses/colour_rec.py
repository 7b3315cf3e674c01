"""Slots must explain the mean colours of a frame, not its patterns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.layers.checks import at_least, positive
from slotreel.layers.patches import check_share, decode_some
from slotreel.layers.precision import at_least_float32
from slotreel.layers.scores import patch_error
from slotreel.types import Dims, Needs, Target


class ColourRecLoss(Loss):
    """Mean squared error between decoded slots and the mean colour around each patch.

    A slot cannot know the phase of a pattern at every place, so on textured surfaces most of the
    error of ``pixel_rec`` cannot be explained by any slot. Their mean colour can.

    Source: none.

    Logs ``colour_rec_r2``: 1 - error / variance of the mean colours about their mean per channel.

    Args:
        dims: not used beyond the common signature.
        weight: of the term.
        window: side of the square around each patch that is averaged, in patches; 1 = the patch
            alone. What lies outside the frame does not count.
        mean: subtracted from colours in [0, 1].
        std: divided by.
        level: which slots to decode, see ``ModelOutput.level``.
        patches: share of the patches that are decoded and compared at a step, drawn anew each time:
            an unbiased estimate of the term at that share of the decoder's cost; 1 = all.

    Shapes: slots (B, T, K, D), views[0] (B, T, 3, H, W) -> scalar.

    Raises:
        ConfigError: a window below 1, a std that is not positive, a share that is not in (0, 1].
        ValueError: the decoder's grid is not the backbone's.
    """

    def __init__(
        self,
        dims: Dims,
        weight: float = 1.0,
        window: int = 2,
        mean: float = 0.5,
        std: float = 0.25,
        level: str = "auto",
        patches: float = 1.0,
    ) -> None:
        super().__init__(weight)
        check_share("losses.colour_rec.patches", patches)
        positive("losses.colour_rec.std", std, 0.25)
        at_least("losses.colour_rec.window", window, 1, 2)
        self.window, self.level, self.patches = window, level, patches
        self.mean, self.std = mean, std

    @property
    def needs(self) -> Needs:
        """Three colours per patch."""
        return Needs(decode={"colours": Target(3, "patch")})

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of views[0]."""
        student = ctx.student[0]
        frames = at_least_float32(ctx.batch.views[0]).flatten(0, 1)
        colours = mean_colours(frames, student.features.grid, self.window)
        target = (colours - self.mean) / self.std
        slots = student.level(self.level)
        decoded, target = decode_some(ctx.decode, slots, target, self.patches)
        pred = at_least_float32(decoded.pred["colours"])
        error, share = patch_error("colour_rec", pred, target, "frames, patches, colours")
        return error, {"colour_rec_r2": share}


def mean_colours(frames: Tensor, grid: tuple[int, int], window: int) -> Tensor:
    """Mean colour of the window around each cell.

    Args:
        frames: (n, C, H, W).
        grid: cells (h, w) that tile the frame.
        window: its side in cells; 1 = the cell itself.

    Returns:
        (n, h*w, C).
    """
    cell = (frames.shape[-2] // grid[0], frames.shape[-1] // grid[1])
    size = (window * cell[0], window * cell[1])
    spare = (size[0] - cell[0], size[1] - cell[1])
    # An odd rest goes to the right and down.
    margins = (spare[1] // 2, spare[1] - spare[1] // 2, spare[0] // 2, spare[0] - spare[0] // 2)
    sums = F.avg_pool2d(F.pad(frames, margins), size, stride=cell)
    inside = F.avg_pool2d(F.pad(torch.ones_like(frames[:1, :1]), margins), size, stride=cell)
    return (sums / inside).flatten(2).transpose(1, 2)
