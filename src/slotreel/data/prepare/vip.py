"""VIP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split, cut_lines, lines_of
from slotreel.data.sources.vip import Vip
from slotreel.data.stills import StillVideos


def _sources(split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(Vip, str(root), split)}


def _named(split: str, root: Path) -> list[str]:
    return lines_of(root / "lists" / f"{split}_videos.txt")


def _cut_lists(root: Path) -> None:
    there = {entry.name for entry in (root / "Images").glob("*")}
    for file in root.glob("lists/*_videos.txt"):
        cut_lines(file, there)


RECIPE = Recipe(
    name="vip",
    page="https://github.com/HCPLab-SYSU/ATEN",
    keeps=(
        Keep("frame", rf"Images/(?P<video>[^/]+)/{IMAGE}", "{video}"),
        Keep("mask", rf"Annotations/Category_ids/(?P<video>[^/]+)/{IMAGE}", "{video}"),
        Keep("list", r"lists/[^/]+_videos\.txt"),
    ),
    splits={
        split: Split(partial(_sources, split), ((count, None),), partial(_named, split))
        for split, count in (("train", 304), ("val", 50))
    },
    by_hand="its page links a OneDrive and a Baidu folder; take VIP_Fine",
    frame_folders=("Images",),
    cut_lists=_cut_lists,
)
