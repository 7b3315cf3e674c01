"""COCO 2017."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split
from slotreel.data.sources.coco import Coco
from slotreel.data.stills import StillVideos

_COUNTS = {"train2017": 118287, "val2017": 5000}
_SPLIT = f"(?P<split>{'|'.join(_COUNTS)})"


def _sources(split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(Coco, str(root), split)}


def _cut_lists(root: Path) -> None:
    for split in _COUNTS:
        file = root / "annotations" / f"instances_{split}.json"
        if not file.is_file():
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        there = {entry.name for entry in (root / split).glob("*")}
        images = [image for image in content["images"] if image["file_name"] in there]
        kept = {image["id"] for image in images}
        annotations = [a for a in content["annotations"] if a["image_id"] in kept]
        content |= {"images": images, "annotations": annotations}
        file.write_text(json.dumps(content), encoding="utf-8")


RECIPE = Recipe(
    name="coco",
    page="https://cocodataset.org/#download",
    keeps=(
        Keep("frame", rf"{_SPLIT}/(?P<name>{IMAGE})", "{split}/{name}"),
        Keep("list", rf"annotations/instances_{_SPLIT}\.json"),
    ),
    splits={
        split: Split(partial(_sources, split), ((count, count),), folder=split)
        for split, count in _COUNTS.items()
    },
    by_hand="take train2017.zip, val2017.zip and annotations_trainval2017.zip, or some of them",
    resizable=False,
    cut_lists=_cut_lists,
)
