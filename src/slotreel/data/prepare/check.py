"""What a prepared folder holds, against what was published."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import track

from slotreel.data.layouts import differs
from slotreel.data.prepare.recipe import Recipe, Split
from slotreel.data.sources.folder import FolderVideos
from slotreel.data.stills import StillVideos


def check(
    recipe: Recipe, root: Path, split: str | None, every_file: bool, console: Console
) -> None:
    """Open the splits that are there and print their counts.

    Args:
        recipe: of the data set.
        root: its folder.
        split: only this one; it must be there.
        every_file: also decode each frame and mask.
        console: where to print.

    Raises:
        DataError: nothing is there, or a file is missing, damaged or of another size; names it.
    """
    names = [split] if split else [s for s, part in recipe.splits.items() if part.exists(root)]
    if not names:
        raise differs(recipe.name, root, f"{root} holds no {recipe.name}")
    for name in names:
        part = recipe.splits[name]
        for suffix, source_of in part.sources(root).items():
            source = source_of()
            infos = [source.info(i) for i in range(len(source))]
            label = f"{recipe.name} {name}{suffix}"
            found = (len(infos), sum(info.num_frames for info in infos))
            verdict = _verdict(part, root, found, recipe.note)
            facts = f"; {recipe.facts(source)}" if recipe.facts else ""
            console.print(
                f"{label}: {found[0]} videos / {found[1]} frames, {verdict}{facts}",
                highlight=False,
                soft_wrap=True,
            )
            if every_file:
                _read_all(source, label, console)


def check_frames(recipe: Recipe, root: Path, console: Console) -> None:
    """Count the videos of a folder without masks, and say how to read them.

    Raises:
        DataError: nothing is there.
    """
    folders = [root / name for name in recipe.frame_folders if (root / name).is_dir()]
    if not folders:
        raise differs(recipe.name, root, f"{root} holds no {recipe.name}")
    for folder in folders:
        count = len(FolderVideos(str(folder)))
        console.print(
            f"{count} videos, frames only: dataset=folder paths.data={folder}",
            highlight=False,
            soft_wrap=True,
        )


def _verdict(part: Split, root: Path, found: tuple[int, int], note: str) -> str:
    published = part.published
    if part.counted is not None and (counted := part.counted(root)) is not None:
        published = ((counted, None),)
    if not published:
        return "how many were published is not known"

    def agrees(videos: int, frames: int | None) -> bool:
        return found[0] == videos and frames in (None, found[1])

    if any(agrees(*edition) for edition in published):
        return "complete"
    counts = " or ".join(
        str(videos) if frames is None else f"{videos} / {frames}" for videos, frames in published
    )
    return f"PARTIAL, published: {counts}" + (f"; {note}" if note else "")


def _read_all(source: StillVideos, label: str, console: Console) -> None:
    """Decode every frame with its truth, one at a time."""
    disable = not console.is_terminal
    for index in track(range(len(source)), label, console=console, disable=disable):
        for n in range(source.info(index).num_frames):
            clip = source.read(index, [n])
            if clip.labels is not None and clip.annotated is not None and clip.annotated[0]:
                source.check_size(index, n, clip.labels[0])
