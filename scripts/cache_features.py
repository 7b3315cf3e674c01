#!/usr/bin/env python
"""Write the features that a frozen backbone gives for every training frame, once.

    python scripts/cache_features.py --out FOLDER experiment=slotcontrast_movi_c paths.data=DIR
    ./train.py experiment=slotcontrast_movi_c backbone=precomputed backbone.path=FOLDER

Says how much it will write, and stops if the disk has not that much room. Killed or out of room, it
keeps what is whole; the same command goes on. --check reads everything back and compares checksums.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

from slotreel.command import say
from slotreel.composing import compose_config
from slotreel.errors import UserError
from slotreel.feature_cache.filling import Filling, damaged
from slotreel.feature_cache.layout import DTYPES
from slotreel.feature_cache.store import FeatureStore
from slotreel.runtime.distributed import World, choose_device


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--out", type=Path, required=True, help="folder to write to, or to go on in")
    found.add_argument("--dtype", default="bf16", help=f"{', '.join(DTYPES)}; default bf16")
    found.add_argument(
        "--crops", type=int, default=0, help="draws of random transforms to store for each video"
    )
    found.add_argument("--dry-run", action="store_true", help="say how much it would be")
    found.add_argument("--check", action="store_true", help="compare checksums; writes nothing")
    found.add_argument("overrides", nargs="*", help="as for train.py")
    return found


def check(folder: Path) -> int:
    """Read everything back; the exit status says whether it is whole."""
    store = FeatureStore(folder)
    bad = damaged(store)
    for number in bad:
        say(f"{store.path(number)} is missing or damaged")
    if bad:
        say("delete these, then type the command that wrote them again: it writes them anew")
    else:
        say(f"{folder}: {store.layout.num_shards} shards, all as they were written")
    return int(bool(bad))


def fill(options: argparse.Namespace, cfg: DictConfig) -> None:
    """Write what is missing and say how to train from it."""
    device = choose_device(cfg.trainer.device, World())
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    filling = Filling(cfg, options.out, options.dtype, options.crops, device)
    say(filling.announce())
    filling.check_room()
    if options.dry_run:
        return
    store = filling.write()
    typed = " ".join(o for o in options.overrides if not o.startswith("backbone"))
    say(f"{store.folder} is complete; train from it:")
    say(" ".join(f"./train.py {typed} backbone=precomputed backbone.path={store.folder}".split()))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_intermixed_args(arguments)
    try:
        if options.check:
            return check(options.out)
        fill(options, compose_config("train", options.overrides))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; {options.out} goes on with the same command", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
