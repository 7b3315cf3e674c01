"""The trivial rows of a table, ready to be scored."""

from __future__ import annotations

from collections.abc import Callable

from slotreel.baselines.trivial import (
    Blocks,
    ForegroundOracle,
    KeepFirst,
    OneSlot,
    RandomLabels,
)
from slotreel.baselines.video_kmeans import FeatureKmeans, RgbKmeans
from slotreel.interfaces import Backbone, Objective


def conditional_rows(num_slots: int, seed: int) -> dict[str, Objective]:
    """Rows of protocols that give the first frame away, by ``model=`` name."""
    return {"keep_first": KeepFirst(num_slots=num_slots, seed=seed)}


def trivial_rows(num_slots: int, seed: int, backbone: Backbone | None) -> dict[str, Objective]:
    """Objectives by ``model=`` name, with the run's K; features only where there is a backbone."""
    simple: dict[str, Callable[..., Objective]] = {
        "one_slot": OneSlot,
        "random": RandomLabels,
        "fg_bg": ForegroundOracle,
        "blocks": Blocks,
        "rgb_kmeans": RgbKmeans,
    }
    rows: dict[str, Objective] = {
        name: kind(num_slots=num_slots, seed=seed) for name, kind in simple.items()
    }
    if backbone is not None:
        rows["feature_kmeans"] = FeatureKmeans(num_slots=num_slots, seed=seed, backbone=backbone)
    return rows
