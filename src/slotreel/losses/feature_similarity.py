"""Slots must predict where the next frame looks like each patch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.interfaces import Loss, StepContext
from slotreel.layers.checks import positive
from slotreel.layers.compared import Compared, compared, compares_keys
from slotreel.layers.precision import at_least_float32, full_precision
from slotreel.types import Dims, Needs, Target


class FeatureSimilarityLoss(Loss):
    """Cross-entropy of predicting, for each patch, which patches of the next frame are like it.

    The target of patch p of frame t is a distribution over the patches q of frame t + 1: cosine
    similarities of their frozen features, those below a threshold left out, divided by a
    temperature, softmax over q. Where a patch is like none, every q is as likely. The slots of
    frame t predict N logits for each of its patches; those of the last frame predict nothing, so
    that alone this loss trains a predictor from three frames on.

    Source: Zadaianchuk et al. 2023 (VideoSAUR), arXiv:2306.04829, temporal feature similarity
    loss; the mean runs over clips, pairs of frames and patches. Differs: ``features=tokens`` is
    ours, keys of the last block are published; options no published configuration uses (other
    time shifts, similarity within a frame, targets without softmax) are left out.

    Cost: 2 * B * (T-1) * N**2 * E operations for the targets, which keep 4 * B * (T-1) * N**2
    bytes until the backward pass; predictions take 4 * B * T * N**2. Both grow with the fourth
    power of image size over patch size. Temporary values are held for one pair of frames.

    Logs ``similarity_floor``, the mean entropy of the targets in nats: no slots reach a smaller
    loss. Uniform predictions give log N.

    Args:
        dims: patch grid at training, and whether the backbone has keys.
        weight: of the term; published 0.1.
        temperature: of the cosine similarities; published 0.075 (MOVi, DINO ViT-B/8), 0.25
            (YouTube-VIS, DINO ViT-B/16), 0.15 (YouTube-VIS, DINOv2 ViT-B/14).
        threshold: similarities below it are left out; published 0; -1 keeps all.
        features: what is compared: ``keys`` of the backbone, its ``tokens``, or ``auto``, the
            keys where it has them.
        level: which slots to decode, see ``ModelOutput.level``.

    Shapes: slots (B, T, K, D), keys or tokens (B, T, N, E) -> scalar.

    Raises:
        ConfigError: keys of a backbone that has none, a temperature that is not positive, a
            threshold outside [-1, 1), an unknown word for ``features``.
        ValueError: a single frame; another grid than that of training.
    """

    def __init__(
        self,
        dims: Dims,
        weight: float = 0.1,
        temperature: float = 0.075,
        threshold: float = 0.0,
        features: Compared = "keys",
        level: str = "auto",
    ) -> None:
        super().__init__(weight)
        positive("losses.feature_similarity.temperature", temperature, 0.075)
        if not -1 <= threshold < 1:
            raise ConfigError(
                "expected losses.feature_similarity.threshold as a cosine from -1 to below 1, got "
                f"{threshold}; type losses.feature_similarity.threshold=0"
            )
        self.use_keys = compares_keys("feature_similarity", features, dims)
        self.temperature, self.threshold, self.level = temperature, threshold, level
        self.patches = dims.grid[0] * dims.grid[1]

    @property
    def needs(self) -> Needs:
        """A logit per patch of the next frame; features that do not move."""
        return Needs(
            pixels=False,
            features=frozenset({"keys"} if self.use_keys else ()),
            decode={"similarity": Target(self.patches, "patch")},
            min_frames=2,
            frozen_target=True,
        )

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of views[0]."""
        student = ctx.student[0]
        shown = compared(student.features, self.use_keys)
        clips, frames, patches = shown.shape[:3]
        if frames < 2:
            raise ValueError(
                "feature_similarity compares frames: expected T >= 2, got T = 1; type clip_length=2"
            )
        # All frames are decoded, so that other losses of the same slots share the work.
        pred = ctx.decode(student.level(self.level)).pred["similarity"]
        expected = (clips * frames, patches, patches)
        if tuple(pred.shape) != expected:
            raise ValueError(
                f"feature_similarity expects predictions of shape {expected} (frames, patches, "
                f"patches of the next frame), got {tuple(pred.shape)}; the decoder must work on "
                "the patch grid, and frames must have the size of training"
            )
        logits = pred.unflatten(0, (clips, frames)).unbind(1)
        losses, floors = [], []
        later = _unit(shown[:, 0])
        for t in range(frames - 1):
            earlier, later = later, _unit(shown[:, t + 1])
            target = similarity_target(earlier, later, self.temperature, self.threshold)
            losses.append(_cross_entropy(logits[t], target))
            floors.append(torch.special.entr(target).sum(-1).mean())
        return torch.stack(losses).mean(), {"similarity_floor": torch.stack(floors).mean()}


@torch.no_grad()
def similarity_target(
    earlier: Tensor, later: Tensor, temperature: float, threshold: float
) -> Tensor:
    """Which patches of the later frame are like each patch of the earlier one.

    Args:
        earlier: (B, N, E), vectors of length 1.
        later: (B, M, E), vectors of length 1.
        temperature: divides cosine similarities.
        threshold: smaller cosine similarities get no share, unless all of a row are smaller.

    Returns:
        (B, N, M); rows sum to 1.
    """
    with full_precision(earlier):
        cosine = earlier @ later.mT
    left_out = cosine < threshold
    nothing_left = left_out.all(dim=-1, keepdim=True)
    cosine.masked_fill_(left_out, -torch.inf).masked_fill_(nothing_left, 0.0)
    return cosine.div_(temperature).softmax(dim=-1)


def _unit(features: Tensor) -> Tensor:
    """Vectors (B, N, E) of one frame, scaled to length 1 in at least single precision."""
    return F.normalize(at_least_float32(features), dim=-1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, N, M) with distributions (B, N, M)."""
    logits = at_least_float32(logits)
    # Rows of the target sum to 1, so log_softmax of every logit need not be stored.
    return (logits.logsumexp(dim=-1) - (target * logits).sum(dim=-1)).mean()
