"""YouTube-VOS, 2018 and 2019."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split
from slotreel.data.sources.ytvos import YouTubeVos
from slotreel.data.stills import StillVideos

_VALID = ((474, None), (507, None))  # 2018, 2019
_COUNTS = {
    "train": ((3471, None),),
    "valid": _VALID,
    "train_all_frames": ((3471, None),),
    "valid_all_frames": _VALID,
}
_SPLIT = f"(?P<split>{'|'.join(_COUNTS)})"


def _sources(split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(YouTubeVos, str(root), split)}


def _cut_lists(root: Path) -> None:
    for file in root.glob("*/meta.json"):
        meta = json.loads(file.read_text(encoding="utf-8"))
        there = {entry.name for entry in (file.parent / "JPEGImages").glob("*")}
        meta["videos"] = {name: facts for name, facts in meta["videos"].items() if name in there}
        if meta["videos"]:
            file.write_text(json.dumps(meta), encoding="utf-8")
        else:
            file.unlink()


RECIPE = Recipe(
    name="ytvos",
    page="https://youtube-vos.org/dataset/vos/",
    keeps=(
        Keep("frame", rf"{_SPLIT}/JPEGImages/(?P<video>[^/]+)/{IMAGE}", "{split}/{video}"),
        Keep("mask", rf"{_SPLIT}/Annotations/(?P<video>[^/]+)/{IMAGE}", "{split}/{video}"),
        Keep("list", rf"{_SPLIT}/meta\.json"),
    ),
    splits={
        split: Split(
            partial(_sources, split),
            counts,
            folder=split,
            borrows=split.removesuffix("_all_frames") if "_all_" in split else "",
        )
        for split, counts in _COUNTS.items()
    },
    by_hand=(
        "register there, open the 2018 or 2019 edition and take train.zip and valid.zip "
        "(train_all_frames.zip for every frame)"
    ),
    frame_folders=tuple(_COUNTS),
    cut_lists=_cut_lists,
)
