"""SegTrack-v2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split
from slotreel.data.sources.segtrack_v2 import SEQUENCES, SegTrackV2
from slotreel.data.stills import StillVideos

_SITE = "https://web.engr.oregonstate.edu/~lif/SegTrack2/"


def _there(root: Path) -> list[str]:
    return [name for name in SEQUENCES if (root / "JPEGImages" / name).is_dir()]


def _sources(root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(SegTrackV2, str(root), _there(root))}


RECIPE = Recipe(
    name="segtrack_v2",
    page=f"{_SITE}dataset.html",
    keeps=(
        Keep("frame", rf"JPEGImages/(?P<video>[^/]+)/{IMAGE}", "all/{video}"),
        Keep("mask", rf"GroundTruth/(?P<video>[^/]+)/(?:\d+/)?{IMAGE}", "all/{video}"),
    ),
    splits={"all": Split(_sources, ((len(SEQUENCES), None),), folder="all", place="JPEGImages")},
    urls=(f"{_SITE}SegTrackv2.zip",),
    frame_folders=(".",),
    note="read it with dataset.source.sequences=[NAME,...]",
)
