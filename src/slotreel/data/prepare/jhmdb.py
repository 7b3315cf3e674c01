"""J-HMDB."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from slotreel.data.prepare.recipe import IMAGE, Keep, Recipe, Split, cut_lines, lines_of
from slotreel.data.sources.jhmdb import CODES, Jhmdb
from slotreel.data.stills import StillVideos

_SITE = "http://files.is.tue.mpg.de/jhmdb/"


def _sources(split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(Jhmdb, str(root), split)}


def _named(split: str, root: Path) -> list[str]:
    names = []
    for file in sorted((root / "splits").glob("*_test_split1.txt")):
        action = file.name.removesuffix("_test_split1.txt")
        lines = [line for line in lines_of(file) if line[-1] == CODES[split]]
        names += [f"{action}/{_video(line)}" for line in lines]
    return names


def _video(line: str) -> str:
    return re.sub(r"(\.avi)?\s+[012]$", "", line)


def _cut_lists(root: Path) -> None:
    for file in (root / "splits").glob("*_test_split[123].txt"):
        action = file.name.rpartition("_test_split")[0]
        there = {entry.name for entry in (root / "Rename_Images" / action).glob("*")}
        cut_lines(file, {line for line in lines_of(file) if _video(line) in there})


RECIPE = Recipe(
    name="jhmdb",
    page="http://jhmdb.is.tue.mpg.de",
    keeps=(
        Keep("frame", rf"Rename_Images/(?P<video>[^/]+/[^/]+)/{IMAGE}", "{video}"),
        Keep(
            "mask",
            r"(?P<video>[^/]+/[^/]+)/joint_positions\.mat",
            "{video}",
            "joint_positions/{path}",
        ),
        Keep("list", r"[^/]+_test_split[123]\.txt", target="splits/{path}"),
    ),
    splits={
        split: Split(partial(_sources, split), ((count, None),), partial(_named, split))
        for split, count in (("train", 660), ("test", 268))
    },
    urls=tuple(
        _SITE + name for name in ("Rename_Images.tar.gz", "joint_positions.zip", "splits.zip")
    ),
    resizable=False,
    cut_lists=_cut_lists,
)
