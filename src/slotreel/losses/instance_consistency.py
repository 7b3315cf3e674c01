"""Instances of a semantic slot must find themselves in the teacher's other frames."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.interfaces import Loss, StepContext
from slotreel.layers.assignment import best_assignment
from slotreel.layers.checks import one_of
from slotreel.layers.precision import at_least_float32, full_precision
from slotreel.types import Dims, HeadSpec, ModelOutput, Needs

HEAD = "object"
TINY = 1e-10  # added to every flag in the divisor, published
Membership = Literal["relaxed", "strict"]
LEAST_PROBABILITY: dict[Membership, float] = {"relaxed": 0.3, "strict": 0.5}


class InstanceConsistencyLoss(Loss):
    """Pull matched instances of two frames together, push those of the same semantic slot apart.

    Instances of a semantic slot in the student's frame i are matched one to one with those in the
    teacher's frame j, all pairs of frames including i = j, so that the cosines of their objects
    (the head's output) add up to the most. Each valid instance of the student adds its mean excess
    over ``margin`` of cosines with those it was not matched with, less the cosine with its match
    where that one is valid too; the sum is divided by the number of valid instances of the student,
    each counted once per frame j. From -1 to 1 - margin; 0 if no instance is valid.

    An instance is valid if its slot is like its semantic slot (cosine > ``min_cosine``) and the
    semantic slot is large (share of tokens with a probability above 0.3 or 0.5 > ``min_area``).

    Source: Qian et al. 2023 (SMTC), arXiv:2308.09951, instance temporal consistency, and its
    program. Differs: ``gather``; assignments are found on the device, all at once; with a single
    instance per semantic slot there is nothing to push apart.

    Logs ``valid_instances``, the share of the student's that are valid. If it stays 0, the term
    trains nothing.

    Args:
        dims: slot width.
        weight: of the term; published 1.
        membership: a token belongs to a semantic slot from which probability on: ``relaxed`` 0.3
            (published program since 2024-02), ``strict`` 0.5 (its first release).
        min_cosine: of an instance with its semantic slot; published 0.5.
        min_area: share of the frame; published 0.2.
        margin: cosine from which instances that are not matched repel; published 0.5.
        gather: sums and counts run over all processes; published false, where the result depends
            on their number.

    Shapes: semantic slots (B, T, S, D), their masks (B, T, S, N), instances (B, T, S * P, D), with
        instance s * P + p belonging to semantic slot s -> scalar.

    Raises:
        ConfigError: an unknown word for ``membership``.
    """

    def __init__(
        self,
        dims: Dims,
        weight: float = 1.0,
        membership: Membership = "relaxed",
        min_cosine: float = 0.5,
        min_area: float = 0.2,
        margin: float = 0.5,
        gather: bool = True,
    ) -> None:
        super().__init__(weight)
        one_of("losses.instance_consistency.membership", membership, get_args(Membership))
        self.least_probability = LEAST_PROBABILITY[membership]
        self.min_cosine, self.min_area = min_cosine, min_area
        self.margin, self.gather = margin, gather
        self.head = HeadSpec(dims.slot, 2 * dims.slot, dims.slot)

    @property
    def needs(self) -> Needs:
        """Both levels, a head for instances, a teacher; one divisor for the whole batch."""
        return Needs(
            pixels=False,
            heads={HEAD: self.head},
            teacher=True,
            batch_wide=True,
            levels=frozenset({"semantic", "instance"}),
        )

    def __call__(self, ctx: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency of the instances of views[0]."""
        assert ctx.teacher is not None, "build makes a teacher for losses that need one"
        assert ctx.teacher_heads is not None
        student = ctx.student[0]
        with full_precision(student.slots):
            valid = self.valid(student)
            with torch.no_grad():
                teacher = _objects(ctx.teacher, ctx.teacher_heads[HEAD])
                teacher_valid = self.valid(ctx.teacher)
            objects = _objects(student, ctx.heads[HEAD])
            sums = consistency_sums(objects, teacher, valid, teacher_valid, self.margin)
        if self.gather:
            sums = ctx.gather(sums[None]).sum(dim=0)
        return sums[0] / sums[1], {"valid_instances": valid.mean()}

    @torch.no_grad()
    def valid(self, output: ModelOutput) -> Tensor:
        """Which instances count, as 0 or 1: (B, T, S, P)."""
        semantic, slots = _levels(output)
        cosine = F.cosine_similarity(slots, semantic[..., None, :], dim=-1)
        masks = at_least_float32(output.levels["semantic"].masks)
        area = (masks > self.least_probability).to(masks.dtype).mean(dim=-1)  # (B, T, S)
        return ((cosine > self.min_cosine) & (area > self.min_area)[..., None]).to(cosine.dtype)


def consistency_sums(
    objects: Tensor, teacher: Tensor, valid: Tensor, teacher_valid: Tensor, margin: float
) -> Tensor:
    """Numerator and divisor of the loss, (2,); the divisor has no gradient.

    Args:
        objects: (B, T, S, P, D) of the student, of length 1.
        teacher: the teacher's, likewise.
        valid: (B, T, S, P) of the student, 0 or 1.
        teacher_valid: the teacher's, likewise.
        margin: cosine from which instances that are not matched repel.
    """
    cosine = torch.einsum("bispd,bjsqd->bijspq", objects, teacher)
    frames, others = objects.shape[1], objects.shape[3] - 1
    match = best_assignment(cosine)[..., None]  # (B, T, T, S, P, 1)
    matched = cosine.gather(-1, match)[..., 0]
    repelled = (cosine - margin).relu().sum(dim=-1) - (matched - margin).relu()
    flags = teacher_valid[:, None, :, :, None].expand_as(cosine).gather(-1, match)[..., 0]
    term = repelled / max(others, 1) - flags * matched
    numerator = (valid[:, :, None] * term).sum()
    return torch.stack([numerator, frames * (valid + TINY).sum()])


def _levels(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """Semantic slots (B, T, S, D) and their instances (B, T, S, P, D)."""
    semantic = at_least_float32(output.levels["semantic"].slots)
    slots = at_least_float32(output.levels["instance"].slots)
    return semantic, slots.unflatten(2, (semantic.shape[2], -1))


def _objects(output: ModelOutput, head: torch.nn.Module) -> Tensor:
    """Directions (B, T, S, P, D) of the head's answers to the instances."""
    return F.normalize(head(_levels(output)[1]), dim=-1)
