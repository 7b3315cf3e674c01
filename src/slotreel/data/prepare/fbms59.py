"""FBMS-59."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split
from slotreel.data.sources.fbms59 import FOLDERS, Fbms59
from slotreel.data.stills import StillVideos

_SITE = "https://lmb.informatik.uni-freiburg.de/resources/datasets/"
_SEQUENCE = "(?P<split>Trainingset|Testset)/(?P<video>[^/]+)"
_TRUTH = r"[^/]+\.(?:ppm|pgm|png|dat)"


def _sources(split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(Fbms59, str(root), split)}


RECIPE = Recipe(
    name="fbms59",
    page=f"{_SITE}moseg.en.html",
    keeps=(
        Keep("frame", rf"{_SEQUENCE}/{IMAGE}", "{split}/{video}"),
        Keep("mask", rf"{_SEQUENCE}/GroundTruth/{_TRUTH}", "{split}/{video}"),
    ),
    splits={
        split: Split(partial(_sources, split), ((count, None),), folder=FOLDERS[split])
        for split, count in (("train", 29), ("test", 30))
    },
    urls=(f"{_SITE}fbms/FBMS_Trainingset.zip", f"{_SITE}fbms/FBMS_Testset.zip"),
    frame_folders=tuple(FOLDERS.values()),
)
