"""`ytvis2019`, `ytvis2021`: YouTube-VIS, its published training folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from slotreel.data.coco_json import AnnotatedStills, Record, field, read_annotations, size_of
from slotreel.data.coco_masks import PackedMasks, compact
from slotreel.data.stills import Still
from slotreel.errors import ConfigError, DataError

log = logging.getLogger(__name__)
PUBLISHED = {2019: 2238, 2021: 2985}  # videos of train
SPLITS = ("train", "validation", "all")
FILES = ("train/instances.json", "train/train.json", "train.json")


class YouTubeVis(AnnotatedStills):
    """YouTube videos with instances on every frame that was published (every fifth).

    Source: Yang, Fan, Xu, "Video instance segmentation", arXiv:1905.04804. Both editions have this
    layout, checked on opening:

        root/train/JPEGImages/ID/NNNNN.jpg
        root/train/instances.json              2021; or train/train.json, train.json (2019)

    Labels are 1, 2, ... by the annotation's id, the same in all frames of a video, and 0 where
    nothing was annotated, which need not be background. Pixels of two instances are 255.

    Only the masks of train were ever published, so train is split here as VideoSAUR
    (arXiv:2306.04829) and SlotContrast (arXiv:2412.14295) do: videos ordered by their number, the
    last 300 are ``validation``.

    Differs: their code stops at videos with overlapping instances or more than 25.

    Memory: masks stay packed in a few buffers. While the file is parsed, its text and its runs are
    held as well.

    Args:
        root: the folder.
        edition: 2019 or 2021.
        split: train, validation or all.
        num_validation: videos kept from train, the last by number.

    Raises:
        ConfigError: an argument is outside its range.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(
        self, root: str, edition: int = 2021, split: str = "train", num_validation: int = 300
    ) -> None:
        if edition not in PUBLISHED:
            raise ConfigError(f"edition={edition}: expected 2019 or 2021")
        if split not in SPLITS:
            raise ConfigError(f"split={split}: choose one of: {', '.join(SPLITS)}")
        self.option, self.root, self.edition = f"ytvis{edition}", Path(root), edition
        folder = self.root / "train" / "JPEGImages"
        if not folder.is_dir():
            raise self.differs(f"there is no folder {folder}")
        found = [self.root / name for name in FILES if (self.root / name).is_file()]
        if not found:
            raise self.differs(f"there is none of {', '.join(FILES)} in {self.root}")
        self.file = found[0]
        content = read_annotations(self.file, _shrink, ("videos", "annotations"))
        videos = self._numbered(content["videos"])
        self._check_edition(len(videos))
        if split != "all" and not 0 < num_validation < len(videos):
            raise ConfigError(
                f"num_validation={num_validation}: {self.file} names {len(videos)} videos, of "
                f"which 1 to {len(videos) - 1} can be kept for validation; type "
                f"num_validation={max(1, len(videos) // 10)} or split=all"
            )
        border = len(videos) - num_validation
        slices = {"train": slice(border), "validation": slice(border, None), "all": slice(None)}
        chosen = dict(sorted(videos.items())[slices[split]])
        objects = self._objects(content["annotations"], videos)
        self.videos = self._found(folder, chosen)
        self.sizes, self.masks = [], PackedMasks()
        for number, video in chosen.items():
            self._fill(video, objects.get(number, []))
        self.finish()

    def _numbered(self, records: list[Any]) -> dict[int, Record]:
        """Videos by number, each with its frames and size."""
        videos: dict[int, Record] = {}
        for record in records:
            number = field(record, "id", int, self.file)
            names = field(record, "file_names", list, self.file)
            if number in videos or not names or not all(isinstance(n, str) for n in names):
                raise DataError(
                    f"{self.file}: video {number} is there twice, or its file_names are no names; "
                    "copy the file again from the archive"
                )
            size_of(record, self.file)
            videos[number] = record
        return videos

    def _check_edition(self, count: int) -> None:
        """Refuse the other edition, warn of a partial copy."""
        for other, published in PUBLISHED.items():
            if count == published and other != self.edition:
                raise self.differs(
                    f"{self.file} names {count} videos, those of the {other} edition: type "
                    f"dataset=ytvis{other} dataset.source.root={self.root}"
                )
        if count != PUBLISHED[self.edition]:
            log.warning(
                "%s names %d videos, %d were published: scores compare only with this copy",
                self.file, count, PUBLISHED[self.edition],
            )  # fmt: skip

    def _objects(
        self, records: list[Any], videos: dict[int, Record]
    ) -> dict[int, list[tuple[int, list[Any]]]]:
        """Instances of each video, ordered by id: id and one mask or None per frame."""
        objects: dict[int, list[tuple[int, list[Any]]]] = {}
        for record in records:
            number = field(record, "id", int, self.file)
            video = field(record, "video_id", int, self.file)
            masks = field(record, "segmentations", list, self.file)
            length = len(videos[video]["file_names"]) if video in videos else None
            if len(masks) != length:
                known = "is not named" if length is None else f"has {length} frames"
                raise DataError(
                    f"{self.file}: annotation {number} has {len(masks)} segmentations, but its "
                    f"video {video} {known}; copy the file again from the archive"
                )
            objects.setdefault(video, []).append((number, masks))
        return {video: sorted(own, key=lambda one: one[0]) for video, own in objects.items()}

    def _found(self, folder: Path, chosen: dict[int, Record]) -> list[Still]:
        """The videos, whose every frame is on disk."""
        missing: list[str] = []
        known: dict[str, set[str]] = {}
        videos, total = [], 0
        for record in chosen.values():
            names = record["file_names"]
            for parent in {str(Path(name).parent) for name in names} - known.keys():
                place = folder / parent
                known[parent] = {f.name for f in place.iterdir()} if place.is_dir() else set()
            frames = [folder / name for name in names]
            lacking = [
                name
                for name, frame in zip(names, frames, strict=True)
                if frame.name not in known[str(Path(name).parent)]
            ]
            missing += lacking
            total += len(names)
            truth: list[tuple[Path, ...]] = [(self.file,)] * len(names)
            videos.append(Still(frames[0].parent.name, frames, truth))
        if missing:
            raise self.lacks(folder, missing, total)
        return videos

    def _fill(self, video: Record, objects: list[tuple[int, list[Any]]]) -> None:
        """Pack the masks of a video, frame by frame."""
        size = size_of(video, self.file)
        self.sizes.append(size)
        for frame, name in enumerate(video["file_names"]):
            for label, (number, masks) in enumerate(objects, start=1):
                if masks[frame] is not None:
                    self.add(label, masks[frame], size, f"annotation {number} on {name}")
            self.masks.end_frame()


def _shrink(node: Record) -> Any:
    """What is kept of an object of the file: no boxes, no areas, runs packed."""
    if "counts" in node:
        return compact(node)
    if "segmentations" in node:
        return {key: node.get(key) for key in ("id", "video_id", "segmentations")}
    return node
