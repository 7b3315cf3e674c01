"""YouTube-VIS, 2019 and 2021; only the masks of train are public."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split
from slotreel.data.sources.ytvis import PUBLISHED, YouTubeVis
from slotreel.data.stills import StillVideos

_FILES = {2019: "train.zip and train.json", 2021: "train.zip"}


def _sources(edition: int, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(YouTubeVis, str(root), edition, "all")}


def _cut_lists(root: Path) -> None:
    file = root / "train" / "instances.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    there = {entry.name for entry in (root / "train" / "JPEGImages").glob("*")}
    videos = [v for v in content["videos"] if Path(v["file_names"][0]).parent.name in there]
    kept = {video["id"] for video in videos}
    annotations = [a for a in content["annotations"] if a["video_id"] in kept]
    content |= {"videos": videos, "annotations": annotations}
    file.write_text(json.dumps(content), encoding="utf-8")


RECIPES = [
    Recipe(
        name=f"ytvis{edition}",
        page="https://youtube-vos.org/dataset/vis/",
        keeps=(
            Keep("frame", rf"train/JPEGImages/(?P<video>[^/]+)/{IMAGE}", "train/{video}"),
            Keep("list", r"train(?:/instances|/train)?\.json", target="train/instances.json"),
        ),
        splits={"train": Split(partial(_sources, edition), ((count, None),), folder="train")},
        by_hand=(
            f"register there, open the {edition} edition and take {_FILES[edition]}; a JSON beside "
            "the archive goes into a folder, which is given like an archive"
        ),
        frame_folders=("train",),
        resizable=False,
        cut_lists=_cut_lists,
    )
    for edition, count in PUBLISHED.items()
]
