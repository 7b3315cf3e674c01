"""`coco`: the pictures of COCO 2017 as videos of one frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from slotreel.data.coco_json import AnnotatedStills, Record, field, read_annotations, size_of
from slotreel.data.coco_masks import PackedMasks, compact
from slotreel.data.stills import Still
from slotreel.errors import ConfigError, DataError, nearest

PREFIX = "instances_"


class _Instance(NamedTuple):
    """What is kept of an annotation."""

    id: Any
    image: Any
    crowd: bool
    mask: Any


class Coco(AnnotatedStills):
    """Pictures with instances; each is a video of one frame, for ``clip_length=1``.

    Source: Lin et al., "Microsoft COCO: common objects in context", arXiv:1405.0312. The layout is
    checked on opening:

        root/{train2017,val2017}/000000000139.jpg
        root/annotations/instances_{train2017,val2017}.json

    Labels are 1, 2, ... by the annotation's id, 0 where nothing was annotated. Pixels of a crowd
    and pixels of two instances are 255. A picture without instances is all 0.

    Differs: DINOSAUR's and SlotContrast's data leave crowds out, so that their pixels are 0; here
    no score counts them.

    Memory: masks stay packed in a few buffers. While the file is parsed, its text, its runs and
    its polygons are held as well.

    Args:
        root: the folder.
        split: train2017, val2017 or any other folder with annotations.

    Raises:
        ConfigError: there is no such split.
        DataError: the layout differs; names what differs and what to type.
    """

    def __init__(self, root: str, split: str = "train2017") -> None:
        self.option, self.root = "coco", Path(root)
        folder, places = self.root / split, self.root / "annotations"
        self.file = places / f"{PREFIX}{split}.json"
        known = [file.stem.removeprefix(PREFIX) for file in places.glob(f"{PREFIX}*.json")]
        if known and split not in known:
            raise ConfigError(f"split={split}: {places} has no such file; {nearest(split, known)}")
        if not self.file.is_file():
            raise self.differs(f"there is no file {self.file}")
        if not folder.is_dir():
            raise self.differs(f"there is no folder {folder}")
        content = read_annotations(self.file, _shrink, ("images", "annotations"))
        images = self._numbered(content["images"])
        objects = self._objects(content["annotations"], images)
        self.videos = self._found(folder, images)
        self.sizes, self.masks = [], PackedMasks()
        for number, image in images.items():
            self._fill(image, objects.get(number, []))
        self.finish()

    def _numbered(self, records: list[Any]) -> dict[int, Record]:
        """Pictures by number, in that order."""
        images: dict[int, Record] = {}
        for record in records:
            number = field(record, "id", int, self.file)
            name = field(record, "file_name", str, self.file)
            size_of(record, self.file)
            if number in images:
                raise DataError(
                    f"{self.file}: image {number} ({name}) is there twice; copy the file again "
                    "from the archive"
                )
            images[number] = record
        return dict(sorted(images.items()))

    def _objects(self, records: list[Any], images: dict[int, Record]) -> dict[int, list[_Instance]]:
        """Instances of each picture, ordered by id."""
        objects: dict[int, list[_Instance]] = {}
        for record in records:
            if not isinstance(record, _Instance) or not isinstance(record.id, int):
                raise DataError(
                    f"{self.file}: {str(record)[:80]} is no annotation with a segmentation; "
                    "expected the file of instances"
                )
            if record.image not in images:
                raise DataError(
                    f"{self.file}: annotation {record.id} belongs to image {record.image}, which "
                    "is not named; copy the file again from the archive"
                )
            objects.setdefault(record.image, []).append(record)
        return {image: sorted(own, key=lambda one: one.id) for image, own in objects.items()}

    def _found(self, folder: Path, images: dict[int, Record]) -> list[Still]:
        """The pictures, all of which are on disk."""
        there = {entry.name for entry in folder.iterdir()}
        names = [image["file_name"] for image in images.values()]
        missing = [name for name in names if name not in there]
        if missing:
            raise self.lacks(folder, missing, len(names))
        truth: list[tuple[Path, ...]] = [(self.file,)]
        return [Still(Path(name).stem, [folder / name], truth) for name in names]

    def _fill(self, image: Record, objects: list[_Instance]) -> None:
        """Pack the masks of a picture."""
        size = size_of(image, self.file)
        self.sizes.append(size)
        label = 0
        for one in objects:
            label += not one.crowd
            where = f"annotation {one.id} on {image['file_name']}"
            self.add(label, one.mask, size, where, one.crowd)
        self.masks.end_frame()


def _shrink(node: Record) -> Any:
    """What is kept of an object of the file: masks in arrays, no boxes, no addresses."""
    if "counts" in node:
        return compact(node)
    if "segmentation" in node:
        mask = node["segmentation"]
        mask = mask if isinstance(mask, tuple) else compact(mask)
        return _Instance(node.get("id"), node.get("image_id"), bool(node.get("iscrowd")), mask)
    if "file_name" in node:
        return {key: node.get(key) for key in ("id", "file_name", "height", "width")}
    return node
