#!/usr/bin/env python
"""Check what a run needs on this machine, each with its fix; exit status 1 if something is missing.

python scripts/doctor.py                                       the default run
python scripts/doctor.py dataset=davis2016 paths.data=DIR      what these overrides need
python scripts/doctor.py experiment=dino_vits16_propagation    data and weights of an experiment
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from slotreel.cli import check_groups, quote_path
from slotreel.doctor import Check, configuration, machine
from slotreel.errors import UserError

CONF = Path(__file__).resolve().parents[1] / "conf"
MARKS = {"ok": "ok", "note": "-", "missing": "MISSING"}


def examine(overrides: list[str]) -> list[Check]:
    """All checks for the configuration that ``./train.py`` would run.

    Raises:
        ConfigError: an override names no option.
    """
    check_groups(overrides, CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [quote_path(o) for o in overrides], return_hydra_config=False)
    return [*machine(), *configuration(cfg)]


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as for train.py")
    options = parser.parse_args(arguments)
    try:
        checks = examine(options.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for check in checks:
        print(f"{MARKS[check.state]:9}{check.name:26}{check.found}")
        if check.fix and check.state != "ok":
            print(f"{'':35}-> {check.fix}")
    missing = [check.name for check in checks if check.state == "missing"]
    print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
