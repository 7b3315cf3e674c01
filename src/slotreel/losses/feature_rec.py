"""Slots must explain the backbone's features."""

from __future__ import annotations

from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.layers.patches import check_share, decode_some
from slotreel.layers.precision import at_least_float32
from slotreel.layers.scores import patch_error
from slotreel.types import Dims, Needs, Target


class FeatureRecLoss(Loss):
    """Mean squared error between decoded slots and the frozen features of the same frame.

    Source: Seitzer et al. 2023 (DINOSAUR), arXiv:2209.14860; the mean runs over clips,
    frames, tokens and channels, as in SlotContrast and VideoSAUR. Differs: no.

    Logs ``rec_r2``: 1 - error / variance of the features about their mean per channel.

    Args:
        dims: feature width.
        weight: of the term; published 1.
        level: which slots to decode, see ``ModelOutput.level``.
        patches: share of the patches that are decoded and compared at a step, drawn anew each time:
            an unbiased estimate of the term at that share of the decoder's cost; published 1, all.

    Shapes: slots (B, T, K, D), tokens (B, T, N, E) -> scalar.

    Raises:
        ConfigError: a share that is not in (0, 1].
        ValueError: the decoder's grid is not the backbone's.
    """

    def __init__(
        self, dims: Dims, weight: float = 1.0, level: str = "auto", patches: float = 1.0
    ) -> None:
        super().__init__(weight)
        check_share("losses.feature_rec.patches", patches)
        self.width, self.level, self.patches = dims.feature, level, patches

    @property
    def needs(self) -> Needs:
        """Features decoded per patch, compared with a backbone that does not move."""
        return Needs(
            decode={"features": Target(self.width, "patch")}, frozen_target=True, pixels=False
        )

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of views[0]."""
        student = ctx.student[0]
        target = at_least_float32(student.features.tokens.detach()).flatten(0, 1)
        slots = student.level(self.level)
        decoded, target = decode_some(ctx.decode, slots, target, self.patches)
        pred = at_least_float32(decoded.pred["features"])
        error, share = patch_error("feature_rec", pred, target, "frames, tokens, width")
        return error, {"rec_r2": share}
