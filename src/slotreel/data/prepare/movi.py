"""MOVi-A to MOVi-F, from the TFRecord files that TensorFlow Datasets made of them."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from slotreel.data.prepare.recipe import Item, Keep, Kind, Recipe, Split, Wish
from slotreel.data.prepare.tfrecord import Values, parse_example
from slotreel.data.sources.movi import SPLITS, VARIANTS, Movi
from slotreel.data.stills import StillVideos
from slotreel.errors import DataError

INFO = "dataset_info.json"  # of TensorFlow Datasets: how many records each shard has
BUCKET = "https://storage.googleapis.com/kubric-public/tfds"
_BOXES, _BOX_FRAMES = "instances/bboxes", "instances/bbox_frames"
_FLAT, _LENGTHS = "ragged_flat_values", "ragged_row_lengths_0"
_WANTED = frozenset(
    {
        "video",
        "segmentations",
        "metadata/video_name",
        "metadata/num_instances",
        "instances/visibility",
        *(f"{name}/{part}" for name in (_BOXES, _BOX_FRAMES) for part in (_FLAT, _LENGTHS)),
    }
)


def unpack(variant: str, record: bytes, split: str, place: str) -> list[Item]:
    """The files of one video: its frames, label maps, boxes and visible pixels.

    Frames and label maps are the PNG files of the record, byte for byte.

    Args:
        variant: "a" to "f".
        record: a serialized tf.train.Example.
        split: train, validation or test.
        place: file and record, for messages.

    Raises:
        DataError: a feature is missing, of another kind or of another length than the rest.
    """
    found = parse_example(record, _WANTED, place)
    video = _video_name(found["metadata/video_name"], place)
    frames, masks = _pictures(found, "video", place), _pictures(found, "segmentations", place)
    if len(frames) != len(masks):
        raise DataError(f"{place}: {len(frames)} frames in video, but {len(masks)} segmentations")
    boxes, visibility = _instances(found, len(frames), place)
    content = io.BytesIO()
    np.savez(content, boxes=boxes, visibility=visibility)
    files: list[tuple[Kind, str, bytes]] = [
        *(("frame", f"JPEGImages/{video}/{n:05d}.png", f) for n, f in enumerate(frames)),
        *(("mask", f"Annotations/{video}/{n:05d}.png", m) for n, m in enumerate(masks)),
        ("mask", f"Instances/{video}.npz", content.getvalue()),
    ]
    folder = f"movi_{variant}-{split}"
    return [
        Item(
            kind,
            f"{folder}/{video}",
            PurePosixPath(folder) / target,
            len(content),
            partial(io.BytesIO, content),
            None,
        )
        for kind, target, content in files
    ]


def _video_name(values: Values, place: str) -> str:
    """The video's name, which becomes that of files."""
    first = values[0] if len(values) else b""
    name = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise DataError(f"{place}: metadata/video_name is {name!r}, expected letters and digits")
    return name


def _pictures(found: dict[str, Values], name: str, place: str) -> list[bytes]:
    pictures = found[name]
    if not isinstance(pictures, list) or not pictures:
        raise DataError(f"{place}: the feature {name} holds no pictures")
    for n, picture in enumerate(pictures):
        if not picture.startswith(b"\x89PNG\r\n\x1a\n"):
            raise DataError(f"{place}: frame {n} of the feature {name} is no PNG picture")
    return pictures


def _instances(
    found: dict[str, Values], num_frames: int, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float32 (T, M, 4), zero where not visible, and visible pixels int64 (T, M)."""
    count = int(_numbers(found, "metadata/num_instances", 1, place)[0])
    pixels = _numbers(found, "instances/visibility", count * num_frames, place)
    lengths = _numbers(found, f"{_BOXES}/{_LENGTHS}", count, place).astype(np.int64)
    if not np.array_equal(lengths, _numbers(found, f"{_BOX_FRAMES}/{_LENGTHS}", count, place)):
        raise DataError(f"{place}: instances have other numbers of bboxes than of bbox_frames")
    total = int(lengths.sum())
    flat = _numbers(found, f"{_BOXES}/{_FLAT}", 4 * total, place).reshape(total, 4)
    when = _numbers(found, f"{_BOX_FRAMES}/{_FLAT}", total, place).astype(np.int64)
    if total and not 0 <= when.min() <= when.max() < num_frames:
        raise DataError(f"{place}: bbox_frames {when.max()}, but there are {num_frames} frames")
    boxes = np.zeros((num_frames, count, 4), dtype=np.float32)
    boxes[when, np.repeat(np.arange(count), lengths)] = flat
    return boxes, pixels.astype(np.int64).reshape(count, num_frames).T


def _numbers(found: dict[str, Values], name: str, count: int, place: str) -> np.ndarray:
    """Values of a feature, of which there must be ``count``."""
    values = found[name]
    if len(values) != count or (count and isinstance(values, list)):
        raise DataError(
            f"{place}: the feature {name} has {len(values)} values, expected {count} numbers"
        )
    return np.asarray(values)


def _shard_lengths(file: Path, split: str) -> list[int]:
    """Records of each shard of a split; [] if the file that tells is not there."""
    if not file.is_file():
        return []
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
        named = {part["name"]: part["shardLengths"] for part in splits}
        return [int(length) for length in named.get(split, ())]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'cannot read {file}: {error!r}; expected {{"splits": [{{"name", "shardLengths"}}]}}, '
            "delete it or copy it again"
        ) from error


def _announced(variant: str, root: Path, shard: str) -> int | None:
    parts = re.fullmatch(r"movi_.-(\w+)\.tfrecord-(\d+)-of-(\d+)", shard)
    assert parts is not None  # the pattern by which shards are found
    lengths = _shard_lengths(root / f"movi_{variant}-{INFO}", parts[1])
    return lengths[int(parts[2])] if len(lengths) == int(parts[3]) > int(parts[2]) else None


def _counted(variant: str, split: str, root: Path) -> int | None:
    return sum(_shard_lengths(root / f"movi_{variant}-{INFO}", split)) or None


def shard_urls(variant: str, info: Path, wish: Wish) -> list[str]:
    """Addresses of the shards that hold the videos asked for.

    Args:
        variant: "a" to "f".
        info: the set's ``dataset_info.json``.
        wish: split and number of videos.

    Raises:
        DataError: the file is damaged, or names no shard of a split.
    """
    urls = []
    for split in [wish.split] if wish.split else SPLITS:
        lengths = _shard_lengths(info, split)
        if not lengths and wish.split:
            raise DataError(f"{info} names no shards of {split}: movi_{variant} has no such split")
        before = np.cumsum([0, *lengths])[:-1]
        urls += [
            f"{_base(variant)}/movi_{variant}-{split}.tfrecord-{n:05d}-of-{len(lengths):05d}"
            for n, first in enumerate(before)
            if wish.limit is None or first < wish.limit
        ]
    return urls


def _base(variant: str) -> str:
    return f"{BUCKET}/movi_{variant}/128x128/1.0.0"


def _one_edition(root: Path, items: Sequence[Item]) -> None:
    """Shards of all resolutions have the same names, as have the files of their videos."""
    twins = [name for name, n in Counter(item.target.name for item in items).items() if n > 1]
    if twins:
        raise DataError(
            f"{twins[0]} comes more than once, as in several resolutions or sets: give the folder "
            "of one, such as movi_c/128x128/1.0.0"
        )


def _facts(source: Movi) -> str:
    """Names, objects per video and size of the frames."""
    infos = [source.info(i) for i in range(len(source))]
    objects = [source.num_objects(i) for i in range(len(source))]
    sizes = sorted({info.size for info in infos})
    if len(sizes) > 1:
        raise DataError(
            f"{source.root}: videos differ in size, {sizes[0]} and {sizes[-1]}: choose an empty "
            "--root for each resolution"
        )
    return (
        f"ids {infos[0].id} to {infos[-1].id}, {min(objects)} to {max(objects)} objects, "
        f"{sizes[0][0]} x {sizes[0][1]} pixels"
    )


def _sources(variant: str, split: str, root: Path) -> dict[str, Callable[[], StillVideos]]:
    return {"": partial(Movi, str(root), variant, split)}


def _movi(variant: str) -> Recipe:
    name = f"movi_{variant}"
    return Recipe(
        name=name,
        page="https://github.com/google-research/kubric/tree/main/challenges/movi",
        keeps=(
            Keep("shard", rf"{name}-(?P<split>{'|'.join(SPLITS)})\.tfrecord-\d+-of-\d+", "{split}"),
            Keep("list", r"dataset_info\.json", target=f"{name}-{INFO}"),
        ),
        splits={
            split: Split(
                partial(_sources, variant, split),
                ((250, None),) if split == "validation" else (),
                folder=f"{name}-{split}",
                counted=partial(_counted, variant, split),
            )
            for split in SPLITS
        },
        urls=(f"{_base(variant)}/{INFO}",),
        listed=partial(shard_urls, variant),
        frame_folders=tuple(f"{name}-{split}" for split in SPLITS),
        conflict=_one_edition,
        unpack=partial(unpack, variant),
        announced=partial(_announced, variant),
        facts=_facts,
    )


RECIPES = tuple(_movi(variant) for variant in VARIANTS)
