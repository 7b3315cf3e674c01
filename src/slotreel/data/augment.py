"""Options of ``dataset.augment``: changes made on the device, after the transfer.

Every clip has random numbers of its own, drawn from (seed, step, clip_id): the same clip is changed
the same way on any number of processes, workers and devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from slotreel.data.geometry import (
    parse_interpolation,
    parse_size,
    refuse_mirrored_points,
    resize_pixels,
)
from slotreel.errors import ConfigError
from slotreel.noise import seed_of
from slotreel.types import Batch


class Augmentation(ABC):
    """One change of a batch.

    Attributes:
        deterministic: it draws nothing and treats frames one by one, so that features of changed
            frames can be stored.
    """

    deterministic: bool = False

    @abstractmethod
    def __call__(self, batch: Batch, generators: Sequence[Generator]) -> Batch:
        """Change a batch of B clips; ``generators`` has one CPU generator per clip."""


def augment_batch(batch: Batch, transforms: Sequence[Augmentation], seed: int, step: int) -> Batch:
    """Apply changes in order.

    Args:
        batch: views in [0, 1], on any device.
        transforms: what to do.
        seed: the run's seed.
        step: the optimizer step.

    Raises:
        ConfigError: the batch carries cached features, which changed pixels would belie.
    """
    if not transforms:
        return batch
    if batch.features is not None:
        raise ConfigError(
            "dataset.augment changes pixels, but this batch carries cached features of the "
            "unchanged ones; type dataset.augment=[] or train without the feature cache"
        )
    generators = [generator_of(seed, step, clip_id) for clip_id in batch.clip_id.tolist()]
    for transform in transforms:
        batch = transform(batch, generators)
    return batch


def generator_of(seed: int, step: int, clip_id: int) -> Generator:
    """Random numbers of one clip at one step."""
    return torch.Generator().manual_seed(seed_of(seed, "augment", step, clip_id))


class HorizontalFlip(Augmentation):
    """Mirror a clip with all its views, labels and boxes, or leave it.

    Args:
        p: chance, 0 to 1.

    Raises:
        ConfigError: ``p`` is outside 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"p={p}: expected a chance from 0 to 1")
        self.p = p

    def draw(self, generator: Generator) -> bool:
        """Whether the clip of these random numbers is mirrored."""
        return bool(torch.rand((), generator=generator) < self.p)

    def __call__(self, batch: Batch, generators: Sequence[Generator]) -> Batch:
        """Mirror some clips of a batch."""
        refuse_mirrored_points(batch.hints, "dataset.augment")
        _refuse_pictures(batch, "HorizontalFlip", known=("boxes", "keypoints"))
        chosen = torch.tensor([self.draw(g) for g in generators], device=batch.views[0].device)

        def mirror(x: Tensor) -> Tensor:
            return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)

        hints = dict(batch.hints)
        if "boxes" in hints:
            boxes = hints["boxes"]
            top, left, bottom, right = boxes.unbind(-1)
            mirrored = torch.stack([top, 1 - right, bottom, 1 - left], -1)
            mirrored = torch.where((boxes == 0).all(-1, keepdim=True), boxes, mirrored)
            hints["boxes"] = torch.where(chosen.view(-1, *[1] * (boxes.ndim - 1)), mirrored, boxes)
        return batch._replace(
            views=tuple(mirror(view) for view in batch.views),
            labels=None if batch.labels is None else mirror(batch.labels),
            teacher_view=None if batch.teacher_view is None else mirror(batch.teacher_view),
            hints=hints,
        )


class Resize(Augmentation):
    """Scale frames to ``size``, after the transfer and without rounding to whole grey levels.

    Labels keep their own size, boxes are fractions of the frame; values are cut to [0, 1], which
    bicubic interpolation leaves. Cheaper than ``transforms.Resize`` where frames are enlarged: what
    the loader sends stays small.

    Args:
        size: one number or (H, W), pixels.
        interpolation: nearest, bilinear or bicubic.
        antialias: low-pass before shrinking.

    Raises:
        ConfigError: an argument is outside its range.
    """

    deterministic = True

    def __init__(
        self,
        size: int | tuple[int, int],
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        self.size, self.antialias = parse_size(size), antialias
        self.interpolation = parse_interpolation(interpolation)

    def __call__(self, batch: Batch, generators: Sequence[Generator]) -> Batch:
        """Scale all views of a batch, and its teacher view if there is one."""
        _refuse_pictures(batch, "Resize", known=("boxes",))

        def scale(video: Tensor) -> Tensor:
            if video.shape[-2:] == self.size:
                return video
            frames = resize_pixels(
                video.flatten(0, 1), self.size, self.interpolation, self.antialias
            )
            return frames.clamp(0, 1).unflatten(0, video.shape[:2])

        return batch._replace(
            views=tuple(scale(view) for view in batch.views),
            teacher_view=None if batch.teacher_view is None else scale(batch.teacher_view),
        )


def _refuse_pictures(batch: Batch, what: str, known: tuple[str, ...]) -> None:
    """Stop where a hint lies in the pixels of the frames and ``what`` would not move it."""
    frame = batch.views[0].shape[-2:]
    for name, hint in batch.hints.items():
        picture = hint.ndim > 3 and hint.shape[2:4] == frame
        if name not in known and (picture or name == "keypoints"):
            raise ConfigError(
                f"dataset.augment: {what} cannot move the hint {name!r} of shape "
                f"{tuple(hint.shape)}; leave it out"
            )
