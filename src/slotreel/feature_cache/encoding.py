"""From the frames of a recipe to their features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from slotreel.assemble import make
from slotreel.errors import ConfigError
from slotreel.feature_cache.layout import name_of
from slotreel.feature_cache.recipe import Recipe
from slotreel.interfaces import Backbone, Objective, VideoSource
from slotreel.model import SlotVideoModel


class Encoder(NamedTuple):
    """From videos to the features of a recipe's variants."""

    source: VideoSource
    recipe: Recipe
    backbone: Backbone
    want: frozenset[str]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, crop: int) -> dict[str, Tensor]:
        """Frames uint8 (1, T, 3, H, W) of one crop -> float32 (T, ...) by variant and field."""
        found = {}
        video = pixels.to(self.device).float().div_(255)
        for mirrored in (False, True) if self.recipe.flips else (False,):
            features = self.backbone(self.recipe.on_device(video, mirrored), self.want)
            variant = self.recipe.variant(crop, mirrored)
            for field in self.fields:
                found[name_of(variant, field)] = getattr(features, field)[0].float().cpu()
        return found

    @property
    def fields(self) -> list[str]:
        """Fields of FrameFeatures that are encoded."""
        return ["tokens", *sorted(self.want)]

    def size(self) -> tuple[int, int]:
        """(H, W) of the frames the backbone sees."""
        pixels = self.recipe.pixels(self.source, 0, range(1), 0)
        shape = self.recipe.on_device(pixels.float(), False).shape
        return shape[-2], shape[-1]


def slot_model(objective: Objective) -> SlotVideoModel:
    """The model whose backbone's features may be stored.

    Raises:
        ConfigError: it has none, it is trained, or it looks at several views.
    """
    model = getattr(objective, "model", None)
    if not isinstance(model, SlotVideoModel):
        raise ConfigError(
            f"{type(objective).__name__} trains on frames, not on features; type model=slots"
        )
    if not model.backbone.frozen:
        raise ConfigError(
            "features of a backbone that is trained change at every step and cannot be stored; "
            "type backbone.frozen=true, or another backbone"
        )
    if objective.views > 1:
        raise ConfigError(
            f"the losses look at {objective.views} views of a clip, and features are stored for "
            "one; drop the loss that compares views, or type feature_cache=null"
        )
    return model


def encoder_of(cfg: DictConfig, objective: Objective, crops: int, device: torch.device) -> Encoder:
    """What a configuration shows to its backbone."""
    data, model = cfg.dataset, slot_model(objective)
    recipe = Recipe(
        [make(step)() for step in data.transform], [make(step)() for step in data.augment], crops
    )
    backbone = model.backbone.to(device).eval()
    return Encoder(make(data.source)(), recipe, backbone, model.want, device)


def relative_error(stored: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> float:
    """Largest |stored - live| / |live| over fields, as norms."""
    return max(
        float((stored[name].float() - x).norm() / x.norm().clamp_min(1e-12))
        for name, x in live.items()
    )
