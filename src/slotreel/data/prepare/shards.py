"""From TFRecord files, one record per video, to the files of each video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from slotreel.data.files import natural_key
from slotreel.data.prepare.archives import named
from slotreel.data.prepare.recipe import Item, Recipe, Wish
from slotreel.data.prepare.tfrecord import records
from slotreel.data.prepare.write import write
from slotreel.errors import DataError

FRAMING = 16  # bytes of length and checksums around a record


def unpack_shards(
    recipe: Recipe, shards: Sequence[Item], root: Path, wish: Wish, console: Console
) -> int:
    """Write every video of the shards that is not there yet; returns the number of files written.

    Each record is read and checked once, also that of a video which is there: its files are
    compared by size.

    Raises:
        DataError: a shard is damaged, or holds a video a second time or another number of videos
            than announced.
    """
    assert recipe.unpack is not None
    chosen = [shard for shard in shards if wish.split in (None, shard.video)]
    chosen.sort(key=lambda shard: natural_key(str(shard.target)))
    columns = (TextColumn(recipe.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    written, seen, taken = 0, set[str](), Counter[str]()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=sum(shard.size for shard in chosen))
        for shard in chosen:
            name, count = shard.target.name, 0
            if taken[shard.video] == wish.limit:
                progress.advance(task, shard.size)
                continue
            with named(Path(name)), shard.open() as stream:
                for count, record in enumerate(records(stream, name), 1):
                    place = f"{name}, record {count - 1}"
                    files = recipe.unpack(record, shard.video, place)
                    written += _write_all(files, root, wish, seen, place)
                    progress.advance(task, len(record) + FRAMING)
                    taken[shard.video] += 1
                    if taken[shard.video] == wish.limit:
                        break
                else:
                    _check_count(recipe, root, name, count)
    return written


def _write_all(files: Sequence[Item], root: Path, wish: Wish, seen: set[str], place: str) -> int:
    video = files[0].video
    if video in seen:
        raise DataError(f"{place}: the video {video} came before; give each shard once")
    seen.add(video)
    kept = [file for file in files if not (wish.frames_only and file.kind == "mask")]
    return sum(write(file, root, wish.side) for file in kept)


def _check_count(recipe: Recipe, root: Path, name: str, count: int) -> None:
    announced = recipe.announced(root, name) if recipe.announced else None
    if announced not in (None, count):
        raise DataError(
            f"{name} holds {count} records, but dataset_info.json announces {announced}: "
            "download it again"
        )
