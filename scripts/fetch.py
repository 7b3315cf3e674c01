#!/usr/bin/env python
"""Fetch what a run reads from the network, e.g. on the login node of a cluster.

    python scripts/fetch.py experiment=slotcontrast_movi_c     as for train.py
    python scripts/fetch.py backbone=dinov2_vits14 init_from=hub:slotcontrast/movi_c

Pretrained weights go to the Hugging Face cache ($HF_HOME), published checkpoints to
$XDG_CACHE_HOME/slotreel; both must lie where compute nodes can read them. Data sets are only looked
for: scripts/prepare.py brings them. Exit status 1 if something is missing.
"""

from __future__ import annotations

import argparse
import sys

from slotreel.composing import compose_config
from slotreel.doctor import configuration
from slotreel.errors import UserError
from slotreel.fetching import Fetched, fetch_all


def examine(overrides: list[str]) -> list[Fetched]:
    """What was fetched, and whether the data is there.

    Raises:
        ConfigError: an override names no option.
    """
    cfg = compose_config("train", overrides)
    fetched = list(fetch_all(cfg))
    cfg.backbone = None  # was just built, if there is anything to fetch
    for check in configuration(cfg):
        if check.name != "paths.runs":
            state = "there" if check.state == "ok" else "failed"
            fetched.append(Fetched(check.name, state, check.found))
    return fetched


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as for train.py")
    options = parser.parse_args(arguments)
    try:
        everything = examine(options.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for what, state, where in everything:
        print(f"{state.upper() if state == 'failed' else state:9}{what}: {where}")
    failed = [what for what, state, _ in everything if state == "failed"]
    print(f"missing: {', '.join(failed)}" if failed else "nothing is missing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
