"""YouTube-VIS and COCO in miniature: runs as numbers and as text, polygons, crowds, gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from tests.datasets.tiny import SIZE, frame

LEFT, RIGHT = (slice(2, 8), slice(1, 8)), (slice(4, 10), slice(6, 14))  # share 4 rows, 2 columns


def box(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[place] = 1
    return mask


def numbers(mask: np.ndarray) -> dict[str, Any]:
    """A mask as runs in numbers, as YouTube-VIS and crowds of COCO have them."""
    flat = mask.ravel(order="F").astype(int)
    ends = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def text(mask: np.ndarray) -> dict[str, Any]:
    """A mask as runs in text."""
    counts = coco_mask.encode(np.asfortranarray(mask))["counts"]
    return {"size": list(mask.shape), "counts": counts.decode()}


def ytvis(
    root: Path, num_videos: int = 4, file: str = "train/instances.json", num_frames: int = 3
) -> Path:
    """Videos v1, v2, ... of a few frames; two instances, the second hidden in frame 1.

    Numbers run against names, the last video has no annotation, annotations are out of order.
    """
    videos, annotations = [], []
    for number in range(num_videos, 0, -1):
        name = f"v{number}"
        names = [f"{name}/{n:05d}.jpg" for n in range(0, 5 * num_frames, 5)]
        for n, path in enumerate(names):
            frame(root / "train" / "JPEGImages" / path, 10 * number + n)
        videos.append({"id": number, "file_names": names, "length": num_frames, "license": 1,
                       "height": SIZE[0], "width": SIZE[1]})  # fmt: skip
        if number == num_videos:
            continue
        masks = {
            2 * number: [None if n == 1 else text(box(RIGHT)) for n in range(num_frames)],
            2 * number - 1: [numbers(box(LEFT))] * num_frames,
        }
        annotations += [
            {"id": one, "video_id": number, "category_id": 3, "iscrowd": 0, "height": SIZE[0],
             "width": SIZE[1], "length": 1, "segmentations": masks[one],
             "bboxes": [m and [1.0, 2.0, 7.0, 6.0] for m in masks[one]],
             "areas": [m and 42 for m in masks[one]]}
            for one in masks
        ]  # fmt: skip
    content = {"info": {"year": 2021}, "licenses": [{"id": 1}], "videos": videos,
               "categories": [{"id": 3, "name": "dog"}], "annotations": annotations}  # fmt: skip
    write(root / file, content)
    return root


def coco(root: Path) -> Path:
    """Four pictures per split: polygons that overlap, a crowd and two, nothing, runs as text."""
    for split in ("train2017", "val2017"):
        images = []
        for number in (25, 9, 30, 34):
            name = f"{number:012d}.jpg"
            frame(root / split / name, number)
            images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1],
                           "coco_url": "http://somewhere", "license": 4})  # fmt: skip
        crowd = numbers(box((slice(0, 2), slice(0, 16))))
        square = [[1.0, 2.0, 8.0, 2.0, 8.0, 8.0, 1.0, 8.0]]  # LEFT
        parts = [[6.0, 4.0, 14.0, 4.0, 14.0, 7.0, 6.0, 7.0], [6, 7, 14, 7, 14, 10, 6, 10]]  # RIGHT
        annotations = [
            annotation(7, 9, parts), annotation(3, 9, square),
            annotation(900100000009, 25, crowd, 1), annotation(5, 25, square),
            annotation(6, 25, parts), annotation(8, 34, text(box(RIGHT))),
        ]  # fmt: skip
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations,
                   "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
        write(root / "annotations" / f"instances_{split}.json", content)
    return root


def annotation(number: int, image: int, mask: Any, crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image, "segmentation": mask, "iscrowd": crowd, "area": 4.0,
            "bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 1}  # fmt: skip


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
