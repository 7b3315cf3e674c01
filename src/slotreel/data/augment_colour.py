"""Options of ``dataset.augment`` that change colours, and the teacher's own view.

Numbers are drawn once per clip and view, so that all frames of a clip change alike; the operations
themselves are torchvision's, on the tensor's device.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
import torchvision.transforms.v2.functional as tv
from torch import Generator, Tensor

from slotreel.data.augment import Augmentation
from slotreel.errors import ConfigError
from slotreel.types import Batch

_ADJUST: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": tv.adjust_hue,
}


class TeacherView(Augmentation):
    """Give the teacher the clip as it is here; what follows changes both, each by its own draws.

    Put it after crops, mirrors and resizes and before changes of colour: student and teacher then
    see the same places in different colours, as SMTC wants.
    """

    def __call__(self, batch: Batch, generators: Sequence[Generator]) -> Batch:
        """Set the teacher's view."""
        return batch._replace(teacher_view=batch.views[0])


class ColourChange(Augmentation):
    """Base of changes that leave every pixel in its place, with a chance per clip and view.

    Args:
        p: the chance.

    Raises:
        ConfigError: ``p`` is outside 0 to 1.
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p <= 1:
            raise ConfigError(f"p={p}: expected a chance from 0 to 1")
        self.p = p

    def __call__(self, batch: Batch, generators: Sequence[Generator]) -> Batch:
        """Change all views of a batch, and its teacher view if there is one."""
        views = tuple(self._view(view, generators) for view in batch.views)
        teacher = batch.teacher_view
        teacher = None if teacher is None else self._view(teacher, generators)
        return batch._replace(views=views, teacher_view=teacher)

    def _view(self, video: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Video (B, T, 3, H, W) in [0, 1] -> the same, some clips changed."""
        clips = []
        for clip, generator in zip(video, generators, strict=True):
            chosen = float(torch.rand((), generator=generator)) < self.p
            clips.append(self.change(clip, generator) if chosen else clip)
        return torch.stack(clips)

    @abstractmethod
    def change(self, clip: Tensor, generator: Generator) -> Tensor:
        """Change a clip (T, 3, H, W) in [0, 1]."""


class ColorJitter(ColourChange):
    """Change brightness, contrast, saturation and hue, by factors constant over a clip.

    Factors are uniform in [1 - strength, 1 + strength], turns of hue in [-hue, hue]. Contrast
    blends with the mean grey of each frame, saturation with the grey of each pixel; values are cut
    to [0, 1] after each.

    Args:
        brightness: strength, 0 to 1; 0 changes nothing.
        contrast: strength, 0 to 1.
        saturation: strength, 0 to 1.
        hue: strength in turns of the colour circle, 0 to 0.5.
        p: chance.
        random_order: in an order drawn for each clip and view, else in that of the arguments.

    Raises:
        ConfigError: a number is outside its range.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        p: float = 1.0,
        random_order: bool = False,
    ) -> None:
        super().__init__(p)
        self.strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in self.strengths.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value}: expected a strength from 0 to 1")
        if not 0 <= hue <= 0.5:
            raise ConfigError(f"hue={hue}: expected turns of the colour circle from 0 to 0.5")
        self.strengths["hue"] = hue
        self.random_order = random_order

    def change(self, clip: Tensor, generator: Generator) -> Tensor:
        """Adjust a clip (T, 3, H, W)."""
        draws = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        order = torch.randperm(4, generator=generator).tolist() if self.random_order else range(4)
        names = list(self.strengths)
        for i in order:
            change = draws[i] * self.strengths[names[i]]
            if self.strengths[names[i]]:
                factor = change if names[i] == "hue" else 1 + change
                clip = _ADJUST[names[i]](clip, factor)
        return clip


class Grayscale(ColourChange):
    """Take the colours away.

    Args:
        p: chance.

    Raises:
        ConfigError: ``p`` is outside 0 to 1.
    """

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p)

    def change(self, clip: Tensor, generator: Generator) -> Tensor:
        """The luma (ITU-R BT.601) of a clip in all three channels."""
        return tv.rgb_to_grayscale(clip, num_output_channels=3)


class GaussianBlur(ColourChange):
    """Blur with a Gaussian, borders reflected.

    Args:
        kernel_size: side of the window, odd.
        sigma: standard deviation in pixels, or [least, most] from which one is drawn for each clip
            and view.
        p: chance.

    Raises:
        ConfigError: a number is outside its range.
    """

    def __init__(
        self, kernel_size: int = 25, sigma: float | Sequence[float] = (0.1, 2.0), p: float = 0.5
    ) -> None:
        super().__init__(p)
        least, most = (sigma, sigma) if isinstance(sigma, int | float) else sigma
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={kernel_size}: expected an odd number above 0")
        if not 0 < least <= most:
            raise ConfigError(f"sigma={sigma}: expected a number above 0, or [least, most]")
        self.kernel_size, self.least, self.most = kernel_size, float(least), float(most)

    def change(self, clip: Tensor, generator: Generator) -> Tensor:
        """Blur a clip (T, 3, H, W)."""
        share = float(torch.rand((), generator=generator))
        sigma = self.least + share * (self.most - self.least)
        return tv.gaussian_blur(clip, [self.kernel_size] * 2, [sigma] * 2)
