"""What each known data set looks like on disk; errors say what a folder looks like instead."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from slotreel.data.files import find_videos, visible
from slotreel.errors import DataError

_VIS = "train/JPEGImages/ID/00000.jpg, train/instances.json (or train/train.json, train.json)"
_FRAMES = "JPEGImages/480p/SEQ/00000.jpg, Annotations/480p/SEQ/00000.png"


class Layout(NamedTuple):
    """The files of a data set."""

    expected: str  # in words, for messages
    markers: tuple[tuple[str, ...], ...]  # globs below the root: all of one group are there


LAYOUTS = {
    "davis2017": Layout(
        f"{_FRAMES}, ImageSets/2017/{{train,val}}.txt", (("JPEGImages", "ImageSets/2017"),)
    ),
    "davis2016": Layout(
        f"{_FRAMES}, ImageSets/2016/{{train,val}}.txt", (("JPEGImages", "ImageSets/2016"),)
    ),
    "segtrack_v2": Layout(
        "JPEGImages/SEQ/*.{png,jpg,bmp}, GroundTruth/SEQ/*.png or GroundTruth/SEQ/{1,2,...}/*.png",
        (("JPEGImages", "GroundTruth"),),
    ),
    "fbms59": Layout(
        "{Trainingset,Testset}/SEQ/*.jpg, SEQ/GroundTruth/*.{pgm,ppm,png}",
        (("Trainingset",), ("Testset",)),
    ),
    "jhmdb": Layout(
        "Rename_Images/CLASS/VIDEO/00001.png, joint_positions/CLASS/VIDEO/joint_positions.mat, "
        "splits/CLASS_test_split1.txt",
        (("Rename_Images",), ("joint_positions",)),
    ),
    "vip": Layout(
        "Images/ID/*.jpg, Annotations/Category_ids/ID/*.png, lists/{train,val}_videos.txt",
        (("Images", "Annotations/Category_ids"),),
    ),
    "ytvis2021": Layout(_VIS, (("train/JPEGImages", "train/instances.json"),)),
    "ytvis2019": Layout(
        _VIS, (("train/JPEGImages", "train/instances.json"), ("train/train.json",), ("train.json",))
    ),
    "ytvos": Layout(
        "{train,valid}/JPEGImages/ID/00000.jpg, {train,valid}/Annotations/ID/00000.png, "
        "{train,valid}/meta.json",
        (("train*/JPEGImages",), ("valid*/JPEGImages",)),
    ),
    **{
        f"movi_{variant}": Layout(
            f"movi_{variant}-{{train,validation,test}}/{{JPEGImages/ID/00000.png,"
            "Annotations/ID/00000.png,Instances/ID.npz}",
            ((f"movi_{variant}-*/Instances",),),
        )
        for variant in "abcdef"
    },
    "coco": Layout(
        "{train2017,val2017}/000000000139.jpg, annotations/instances_{train2017,val2017}.json",
        (("annotations/instances_*.json",), ("train2017",), ("val2017",)),
    ),
}


def differs(option: str, root: Path, what: str) -> DataError:
    """The error for a folder that is not what ``dataset=OPTION`` reads; ``what`` says where."""
    return DataError(
        f"{what}. dataset={option} expects below {root}: {LAYOUTS[option].expected}; "
        f"{contents(root)}.{guess(root, option)} Prepare the archive with `python scripts/"
        f"prepare.py {option} --root {root} ARCHIVE`, or point to another place with "
        "paths.data=FOLDER or dataset.source.root=FOLDER"
    )


def contents(root: Path, most: int = 6) -> str:
    """What is in a folder, in a few words."""
    if not root.is_dir():
        return "there is no such folder"
    names = [entry.name for entry in visible(root)]
    if not names:
        return "that folder is empty"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"it holds {', '.join(names[:most])}{more}"


def guess(root: Path, option: str) -> str:
    """A sentence on which known data set a folder, or one just below it, holds; "" if none."""
    if option in LAYOUTS and _fits(root, option):
        return ""
    for folder in (root, *_folders(root)):
        for name in LAYOUTS:
            if _fits(folder, name):
                return f" {folder} looks like dataset={name}."
    if option != "folder" and root.is_dir() and find_videos(root):
        return f" {root} looks like dataset=folder."
    return ""


def _folders(root: Path) -> list[Path]:
    return [entry for entry in visible(root) if entry.is_dir()] if root.is_dir() else []


def _fits(folder: Path, name: str) -> bool:
    return any(all(any(folder.glob(marker)) for marker in group) for group in LAYOUTS[name].markers)
