#!/usr/bin/env python
"""Turn a published checkpoint of SlotContrast, VideoSAUR, DINOSAUR or SMTC into a slotreel run.

    python scripts/import_checkpoint.py --source slotcontrast --preset movi_c movi_c.ckpt runs/c
    python scripts/import_checkpoint.py --source slotcontrast --preset movi_c m.ckpt out num_slots=7

The second form reads a model that was trained with other settings: key=value as for ./train.py.
The frozen backbone is stored as timm's name and a hash; --full stores its weights too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from slotreel.errors import UserError
from slotreel.importing.convert import PRESETS, import_checkpoint


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = "; ".join(f"{source}: {', '.join(presets)}" for source, presets in PRESETS.items())
    made.add_argument("--source", required=True, help="the program that wrote the file")
    made.add_argument("--preset", required=True, help=f"its configuration ({known})")
    made.add_argument("--full", action="store_true", help="store the frozen backbone too")
    made.add_argument("file", type=Path, help="the published .ckpt file")
    made.add_argument("out", type=Path, help="the run directory to make")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="other model settings")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_intermixed_args(arguments)
    try:
        done = import_checkpoint(
            options.file,
            options.source,
            options.preset,
            options.out,
            full=options.full,
            overrides=options.overrides,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    unused = f"\nnot used: {', '.join(done.unused)}" if done.unused else ""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{done.directory}: {done.num_tensors} tensors of step {done.step} from a file of sha256 "
        f"{done.sha256}; backbone {done.backbone}{unused}\n\nNext:\n"
        f"  score        ./eval.py checkpoint={done.directory} paths.data=DATA\n"
        f"  your video   ./predict.py checkpoint={done.directory} input=VIDEO.mp4 output=out\n"
        f"  fine-tune    ./train.py clone={done.directory} init_from={done.directory}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
