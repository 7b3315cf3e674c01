#!/usr/bin/env python
"""List the runs of a sweep: state, step, hours, score.

    python scripts/sweep.py                  the sweeps there are
    python scripts/sweep.py NAME             the runs of runs/sweeps/NAME (a path will do)

finished  training reached its last step and scores were written
running   a process holds the run directory, or SLURM runs its job
queued    SLURM has its job (squeue)
failed    it was begun, and neither of these; the last error stands below the table
missing   it was never begun

Typing the command of the sweep again starts what is failed or missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from slotreel.errors import ConfigError, UserError, nearest
from slotreel.sweeps.state import MANIFEST, read_points, states, table


def sweeps_in(folder: Path) -> list[str]:
    """Names of the sweeps below a folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def find(name: str, folder: Path) -> Path:
    """Where the sweep of that name or path is.

    Raises:
        ConfigError: there is none.
    """
    for sweep in (folder / name, Path(name)):
        if (sweep / MANIFEST).is_file():
            return sweep
    known = sweeps_in(folder)
    hint = nearest(name, known) if known else "there is none yet"
    raise ConfigError(f"{folder} has no sweep {name}; {hint}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="of the sweep, or its folder")
    parser.add_argument("--runs", type=Path, help="as paths.runs= (default: runs)")
    options = parser.parse_args(arguments)
    folder = (options.runs or Path(os.environ.get("SLOTREEL_RUNS", "runs"))) / "sweeps"
    try:
        if options.name is None:
            for name in sweeps_in(folder):
                print(f"{name}  {len(read_points(folder / name))} runs")
        else:
            print(table(states(find(options.name, folder))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
