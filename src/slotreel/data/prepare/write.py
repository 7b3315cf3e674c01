"""One file on its way into the root: whole or not at all, and not twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PIL import Image

from slotreel.data.geometry import resize_frames
from slotreel.data.image_io import image_size, read_image, write_image
from slotreel.data.prepare.recipe import Item
from slotreel.errors import DataError

_NO_PICTURES = (".dat", ".npz")  # truth that does not scale with the frames


def write(item: Item, root: Path, side: int | None) -> bool:
    """Write a frame or mask under its name once complete; False if it is there already."""
    target = root / item.target
    if target.suffix in _NO_PICTURES:
        side = None
    if target.is_file() and _is_done(target, item, side):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".part-{target.name}")
    with item.open() as source, temporary.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    if side is not None:
        _shrink(temporary, side, item.kind == "mask")
    os.replace(temporary, target)
    return True


def write_list(item: Item, root: Path) -> None:
    """Write a list, in the form its source reads; what is there is replaced."""
    with item.open() as source:
        content = source.read()
    target = root / item.target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".part-{target.name}")
    temporary.write_bytes(item.convert(content) if item.convert else content)
    os.replace(temporary, target)


def _is_done(target: Path, item: Item, side: int | None) -> bool:
    if side is None:
        return target.stat().st_size == item.size
    try:
        return min(image_size(target)) <= side
    except DataError:
        return False


def _shrink(path: Path, side: int, mask: bool) -> None:
    """Scale a picture to a shorter side, unless it is that small; masks keep ids and palette."""
    height, width = image_size(path)
    scale = side / min(height, width)
    if scale >= 1:
        return
    size = (round(height * scale), round(width * scale))
    if mask:
        with Image.open(path) as image:
            small = image.resize(size[::-1], Image.Resampling.NEAREST)
        small.save(path)
    else:
        write_image(path, resize_frames(read_image(path)[None], size, "bilinear", True)[0])
