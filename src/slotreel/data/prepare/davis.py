"""DAVIS 2016 and 2017."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from slotreel.data.prepare.recipe import IMAGE, Item, Keep, Recipe, Split, cut_lines, lines_of
from slotreel.data.sources.davis import ANNOTATIONS, Davis
from slotreel.data.stills import StillVideos
from slotreel.errors import DataError


def _pairs_to_names(content: bytes) -> bytes:
    """`/JPEGImages/480p/bear/00000.jpg /Annotations/...` per line -> one sequence per line."""
    lines = content.decode("utf-8").splitlines()
    names = [PurePosixPath(line.split()[0]).parent.name for line in lines if line.strip()]
    return ("\n".join(dict.fromkeys(names)) + "\n").encode()


def _one_edition(root: Path, items: Sequence[Item]) -> None:
    """Masks of both editions have the same names, and those of 2016 know one object only.

    Raises:
        DataError: the root holds the masks of the other edition.
    """
    if not (root / "Annotations" / "480p").is_dir():
        return
    brings_2016 = any(item.convert for item in items)
    has = {year: (root / "ImageSets" / year).is_dir() for year in ("2016", "2017")}
    brings_2017 = any(item.target.parts[:2] == ("ImageSets", "2017") for item in items)
    if (brings_2016 and has["2017"]) or (brings_2017 and has["2016"] and not has["2017"]):
        raise DataError(
            f"{root} holds masks of the other edition of DAVIS, and these would replace them: "
            "choose another --root and read it with dataset.source.root=FOLDER"
        )


def _davis_sources(year: int, split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    kinds = ANNOTATIONS if year == 2017 else ANNOTATIONS[:1]
    there = [kind for kind in kinds if (root / kind).is_dir()] or kinds[:1]
    return {
        "" if kind == "Annotations" else f", {kind}": partial(
            Davis, str(root), year, split, "480p", kind
        )
        for kind in there
    }


def _cut_lists(root: Path) -> None:
    there = {entry.name for entry in (root / "JPEGImages" / "480p").glob("*")}
    for file in root.glob("ImageSets/201[67]/*.txt"):
        cut_lines(file, there)


def _davis(year: int, published: dict[str, tuple[int, int]], url: str) -> Recipe:
    def named(split: str, root: Path) -> list[str]:
        return lines_of(root / "ImageSets" / str(year) / f"{split}.txt")

    masks = "(?:Annotations|Annotations_unsupervised)"
    return Recipe(
        name=f"davis{year}",
        page="https://davischallenge.org",
        keeps=(
            Keep("frame", rf"JPEGImages/480p/(?P<video>[^/]+)/{IMAGE}", "{video}"),
            Keep("mask", rf"{masks}/480p/(?P<video>[^/]+)/{IMAGE}", "{video}"),
            Keep("list", r"ImageSets/201[67]/[^/]+\.txt"),
            Keep(
                "list",
                r"ImageSets/480p/(?P<split>train|val)\.txt",
                target="ImageSets/2016/{split}.txt",
                convert=_pairs_to_names,
            ),
        ),
        splits={
            split: Split(partial(_davis_sources, year, split), (counts,), partial(named, split))
            for split, counts in published.items()
        },
        urls=(url,),
        frame_folders=(".",),
        cut_lists=_cut_lists,
        conflict=_one_edition,
    )


RECIPES = (
    _davis(
        2016,
        {"train": (30, 2079), "val": (20, 1376)},
        "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
    ),
    _davis(
        2017,
        {"train": (60, 4209), "val": (30, 1999)},
        "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",
    ),
)
