"""What a slot holds in one frame it must hold in another, where the teacher's features match."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Loss, StepContext
from slotreel.layers.checks import at_least, positive
from slotreel.layers.compared import Compared, compared, compares_keys
from slotreel.layers.precision import at_least_float32, full_precision
from slotreel.layers.transport import carry
from slotreel.types import Dims, Needs

EPS = 1e-8  # added to probabilities inside the logarithm, published
SMALLEST_PLAIN = 0.025  # exp(cosine / 0.025) goes from 4e-18 to 2e17: its squares are still float32


class SemanticTransportLoss(Loss):
    """Cross-entropy of the student's masks with the teacher's masks of the other frames.

    Tokens of two frames are matched by optimal transport on the teacher's features; a token of
    the student's frame i must be assigned to slots as the teacher assigns the tokens of frame j to
    which its mass goes. All ordered pairs of different frames count; the mean runs over clips and
    pairs, so two processes with equal shares give what one would. Uniform masks give log K.

    The teacher must see the same pixels at the same places, and slot k must mean the same in all
    frames and in both models: learned queries do, noise drawn for each does not.

    Source: Qian et al. 2023 (SMTC), arXiv:2308.09951, semantic temporal consistency, and its
    program. Differs: teacher masks are carried over by the plan and summed over j before they meet
    the student, so that no (N, N) product with slots exists (same value and gradient); each cost
    serves both directions; frames whose features are all zero weigh their tokens alike;
    ``log_domain`` and ``features`` are ours.

    Cost: B T (T-1) / 2 matrices of N x N floats (three times that with ``log_domain``), freed
    before the backward pass, which keeps (B, T, K, N).

    Args:
        dims: whether the backbone has keys.
        weight: of the term; published 1.
        num_iters: Sinkhorn rounds; published 3.
        epsilon: strength of the entropy, in cosines; published 0.05.
        log_domain: needed below epsilon 0.025; same values, slower.
        features: what is matched: ``keys`` of the teacher's backbone, its ``tokens`` (published,
            where the tokens are keys), or ``auto``, the keys where it has them.
        level: whose masks, see ``ModelOutput.grouping``.

    Shapes: masks (B, T, K, N), features (B, T, N, E) -> scalar.

    Raises:
        ConfigError: keys of a backbone that has none, numbers out of range.
        ValueError: a single frame.
    """

    def __init__(
        self,
        dims: Dims,
        weight: float = 1.0,
        num_iters: int = 3,
        epsilon: float = 0.05,
        log_domain: bool = False,
        features: Compared = "auto",
        level: str = "auto",
    ) -> None:
        super().__init__(weight)
        at_least("losses.semantic_transport.num_iters", num_iters, 1, 3)
        positive("losses.semantic_transport.epsilon", epsilon, 0.05)
        if epsilon < SMALLEST_PLAIN and not log_domain:
            raise ConfigError(
                f"losses.semantic_transport.epsilon={epsilon} would underflow; type "
                f"losses.semantic_transport.log_domain=true, or epsilon={SMALLEST_PLAIN} or more"
            )
        self.use_keys = compares_keys("semantic_transport", features, dims)
        self.num_iters, self.epsilon, self.log_domain = num_iters, epsilon, log_domain
        self.level = level

    @property
    def needs(self) -> Needs:
        """A teacher whose features do not move, and two frames."""
        return Needs(
            pixels=False,
            features=frozenset({"keys"} if self.use_keys else ()),
            teacher=True,
            min_frames=2,
            frozen_target=True,
        )

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of views[0]."""
        assert ctx.teacher is not None, "build makes a teacher for losses that need one"
        masks = ctx.student[0].grouping(self.level).masks
        if masks.shape[1] < 2:
            raise ValueError("semantic_transport compares frames: expected T >= 2, got T = 1")
        with full_precision(masks):
            value = self.value(
                at_least_float32(masks),
                at_least_float32(ctx.teacher.grouping(self.level).masks),
                at_least_float32(compared(ctx.teacher.features, self.use_keys)),
            )
        return value, {}

    def value(self, masks: Tensor, teacher: Tensor, features: Tensor) -> Tensor:
        """Cross-entropy of masks (B, T, K, N) with the teacher's, matched by its features."""
        target = self.transported(teacher, features)
        pairs = masks.shape[0] * masks.shape[1] * (masks.shape[1] - 1)
        return -(target * (masks + EPS).log()).sum() / pairs

    @torch.no_grad()
    def transported(self, masks: Tensor, features: Tensor) -> Tensor:
        """For each frame the masks of all other frames, carried over by the plans and summed.

        Args:
            masks: (B, T, K, N) of the teacher.
            features: (B, T, N, E) of the teacher.

        Returns:
            (B, T, K, N); the sum over K and N is the number of other frames.
        """
        frames = masks.shape[1]
        unit = F.normalize(features, dim=-1)
        mass = unit.abs().sum(dim=-1)
        mass = mass.where(mass.sum(dim=-1, keepdim=True) > 0, 1.0)
        mass = mass / mass.sum(dim=-1, keepdim=True)
        early, late = torch.triu_indices(frames, frames, offset=1, device=masks.device)
        # The cost is 1 - cosine; its constant does not change the plan, and without it the kernel
        # underflows later.
        first, second = (unit.index_select(1, k) for k in (early, late))
        kernel = (first / self.epsilon) @ second.mT  # (B, pairs, N, N)
        if not self.log_domain:
            kernel.exp_()
        carried = masks.new_zeros(len(masks), frames, *masks.shape[1:])  # to frame i from frame j
        for i, j, way in ((early, late, kernel), (late, early, kernel.mT)):
            carried[:, i, j] = carry(
                masks[:, j].mT,
                way,
                mass[:, i],
                mass[:, j],
                num_iters=self.num_iters,
                log_domain=self.log_domain,
            ).mT
        return carried.sum(dim=2)
