#!/usr/bin/env python
"""Bring the published archives of a data set into the layout that `dataset=NAME` reads.

    python scripts/prepare.py davis2017 --root data/davis DAVIS-2017-trainval-480p.zip
    python scripts/prepare.py fbms59 --root data/fbms59 --download
    python scripts/prepare.py fbms59 --root data/fbms59 --check

Give any number of archives (zip, tar, tfrecord) or folders that hold the files; they are merged.
Files already there are skipped, so an interrupted run is simply started again. At the end every
split is opened and its counts are compared with the published ones. docs/datasets.md has the table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from slotreel.data.prepare.bring import bring, refuse
from slotreel.data.prepare.check import check, check_frames
from slotreel.data.prepare.download import fetch
from slotreel.data.prepare.recipe import Recipe, Wish
from slotreel.data.prepare.recipes import RECIPES
from slotreel.errors import UserError


def download(recipe: Recipe, root: Path, wish: Wish, console: Console) -> list[Path]:
    """Archives of a data set in root/downloads, for all of which a URL must be known.

    Of a set that lies in many files, only those of the split and limit asked for.
    """
    if not recipe.urls:
        raise UserError(
            f"--download: no address of an archive of {recipe.name} is known. {recipe.page}: "
            f"{recipe.by_hand}; then type `python scripts/prepare.py {recipe.name} --root {root} "
            "ARCHIVE ...`"
        )
    console.print(f"terms of use: see {recipe.page}", highlight=False, soft_wrap=True)
    folder = root / "downloads"
    files = [fetch(url, folder, console) for url in recipe.urls]
    if recipe.listed is None:
        return files
    more = recipe.listed(files[0], wish)
    for number, url in enumerate(more, 1):
        console.print(f"{number} of {len(more)}", end=" ", highlight=False)
        fetch(url, folder, console)
    return [folder]


def run(options: argparse.Namespace, console: Console) -> None:
    """Download, write and check, as asked."""
    recipe, root = RECIPES[options.name], options.root
    wish = Wish(options.split, options.limit, options.frames_only, options.resize)
    refuse(recipe, wish)
    archives = list(options.archives)
    if options.check and (archives or options.download):
        raise UserError("--check writes nothing: leave archives and --download out, or --check")
    if options.download:
        archives += download(recipe, root, wish, console)
    if archives:
        bring(recipe, archives, root, wish, console)
    if options.frames_only:
        check_frames(recipe, root, console)
    else:
        check(recipe, root, options.split, options.check, console)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("name", choices=list(RECIPES), help="the data set, as in dataset=NAME")
    made.add_argument("archives", nargs="*", type=Path, help="published archives or folders")
    made.add_argument("--root", type=Path, required=True, help="folder to write to")
    made.add_argument("--download", action="store_true", help="fetch them, where a URL is public")
    made.add_argument("--check", action="store_true", help="read every file of --root, write none")
    made.add_argument("--split", help="only this one")
    made.add_argument("--limit", type=int, help="only the first N videos of each split")
    made.add_argument("--frames-only", action="store_true", help="leave masks out")
    made.add_argument("--resize", type=int, help="shorter side in pixels; masks nearest")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_intermixed_args(arguments)
    try:
        run(options, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
