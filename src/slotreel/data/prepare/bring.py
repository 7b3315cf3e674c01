"""From archives to a checked folder: choose files, write each once complete, check the result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track

from slotreel.data.files import natural_key
from slotreel.data.prepare.archives import named, opened
from slotreel.data.prepare.recipe import Item, Recipe, Wish
from slotreel.data.prepare.shards import unpack_shards
from slotreel.data.prepare.write import write, write_list
from slotreel.errors import ConfigError, DataError, UserError, nearest


def refuse(recipe: Recipe, wish: Wish) -> None:
    """Stop at wishes that a data set cannot fulfil.

    Raises:
        ConfigError: a number is below 1, or there is no such split.
        UserError: the truth cannot be left out, or does not scale with the frames.
    """
    if wish.split is not None and wish.split not in recipe.splits:
        raise ConfigError(f"--split {wish.split}: {nearest(wish.split, recipe.splits)}")
    for name, value in (("--limit", wish.limit), ("--resize", wish.side)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: expected 1 or more")
    if wish.frames_only and not recipe.frame_folders:
        raise UserError(f"--frames-only: {recipe.name} cannot be read without its truth")
    if wish.side is not None and not recipe.resizable:
        raise UserError(
            f"--resize: the truth of {recipe.name} is in pixels of the original frames; leave it "
            "out and scale while reading, dataset.transform=[{_target_: "
            "slotreel.data.transforms.ResizeShortSide, size: 240}]"
        )


def bring(
    recipe: Recipe, archives: Sequence[Path], root: Path, wish: Wish, console: Console
) -> int:
    """Write what is needed and not there yet; returns the number of files written.

    Lists go first, because they say which videos belong to a split.

    Raises:
        UserError: a folder to read from holds the root, which would be changed under its own feet.
        DataError: an archive is damaged, holds nothing of the data set, or would write outside.
    """
    for archive in archives:
        if archive.is_dir() and root.resolve().is_relative_to(archive.resolve()):
            raise UserError(
                f"{archive} is or holds --root {root}: choose another --root, or type --check to "
                "read what is there"
            )
    with ExitStack() as stack:
        found: list[list[Item]] = []
        for archive in archives:
            members = stack.enter_context(opened(archive))
            items = [item for item in map(recipe.item, members) if item is not None]
            if not items:
                raise DataError(
                    f"{archive} holds nothing of {recipe.name}: expected files such as "
                    f"{recipe.keeps[0].pattern}; see {recipe.page}"
                )
            found.append(items)
        every = [item for items in found for item in items]
        if recipe.conflict is not None:
            recipe.conflict(root, every)
        lists = [item for item in every if item.kind == "list"]
        for item in sorted(lists, key=lambda item: item.convert is None):  # its own form wins
            write_list(item, root)
        if recipe.unpack is not None:
            return _bring_shards(recipe, root, every, wish, console)
        wanted = _wanted(recipe, root, every, wish)
        written = 0
        for archive, items in zip(archives, found, strict=True):
            chosen = [
                item
                for item in items
                if item.kind != "list"
                and not (wish.frames_only and item.kind == "mask")
                and (wanted is None or item.video in wanted)
            ]
            shown = track(chosen, archive.name, console=console, disable=not console.is_terminal)
            with named(archive):
                count = sum(write(item, root, wish.side) for item in shown)
            console.print(f"{archive}: {count} files written", highlight=False, soft_wrap=True)
            written += count
    if wanted is not None and recipe.cut_lists is not None:
        recipe.cut_lists(root)
    return written


def _bring_shards(
    recipe: Recipe, root: Path, items: Sequence[Item], wish: Wish, console: Console
) -> int:
    shards = [item for item in items if item.kind == "shard"]
    if not shards:
        raise DataError(f"these archives hold no {recipe.keeps[0].pattern}; see {recipe.page}")
    written = unpack_shards(recipe, shards, root, wish, console)
    console.print(f"{len(shards)} shards: {written} files written", highlight=False)
    return written


def _wanted(recipe: Recipe, root: Path, items: Sequence[Item], wish: Wish) -> set[str] | None:
    """Videos to take; None means all.

    Raises:
        DataError: the lists that would tell are missing.
    """
    if wish.split is None and wish.limit is None:
        return None
    there = sorted({item.video for item in items if item.kind == "frame"}, key=natural_key)
    wanted: set[str] = set()
    for name in recipe.splits if wish.split is None else [wish.split]:
        part = recipe.splits[name]
        chosen = part.videos(root, there)[: wish.limit]
        wanted.update(chosen)
        if part.borrows:
            wanted.update(f"{part.borrows}/{video.partition('/')[2]}" for video in chosen)
    if not wanted:
        raise DataError(
            f"no video of {recipe.name} {wish.split or ''} is named by the lists in these archives "
            "or below --root; give the archive with the lists too, or leave --split and --limit out"
        )
    return wanted
