#!/usr/bin/env python
"""Draw masks of several methods on the same frames, as PDF and PNG.

    python scripts/figure.py RUNS... -o figure                            best, median, worst clip
    python scripts/figure.py RUNS... --clips moving_shapes_00003 --frames 0 4 8 -o figure

Rows: video, truth, one per variant (runs that differ in more than the seed; its first seed is
shown). The same object has the same colour in every row: labels are matched to the truth, without
truth to the first method. Clips are chosen by score, not by hand, unless named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slotreel.errors import ConfigError, UserError, nearest
from slotreel.reporting.comparing import Comparison
from slotreel.reporting.figure import choose, compose, save, segment_clips
from slotreel.reporting.finding import find_runs
from slotreel.reporting.page import collect
from slotreel.reporting.records import read_record
from slotreel.runtime.distributed import World, choose_device
from slotreel.score_text import HEADLINES


def pick(comparisons: list[Comparison], name: str | None) -> Comparison:
    """The first comparison, or the first of this set."""
    fitting = [c for c in comparisons if name in (None, c.column.set)]
    if not comparisons:
        raise ConfigError("a figure needs scores, and none of these runs has finished")
    if not fitting:
        sets = {comparison.column.set for comparison in comparisons}
        raise ConfigError(f"--set {name}: nothing was scored on it; {nearest(str(name), sets)}")
    return fitting[0]


def draw(options: argparse.Namespace) -> list[Path]:
    """Choose, segment, draw; returns the files."""
    contents = collect([read_record(directory) for directory in find_runs(options.runs)])
    comparison = pick(contents.comparisons, options.set)
    judged = next((m for m in HEADLINES if m in comparison.metrics), comparison.metrics[0])
    choices = choose(comparison, options.metric or judged, options.clips)
    device = choose_device(options.device, World())
    clips = [choice.clip for choice in choices]
    segmented = {
        line.label: segment_clips(line.variant, comparison.column, clips, device)
        for line in comparison.lines
        if line.variant
    }
    return save(compose(choices, segmented, options.frames, options.columns), options.out)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="directories, patterns or folders")
    parser.add_argument("-o", "--out", type=Path, default=Path("figure"), help="without suffix")
    parser.add_argument("--set", help="set of videos; default: the first that was scored")
    parser.add_argument("--clips", nargs="+", default=[], metavar="ID", help="videos to show")
    parser.add_argument("--frames", nargs="+", type=int, default=[], help="numbers, from 0")
    parser.add_argument("--columns", type=int, default=6, help="frames where none are named")
    parser.add_argument("--metric", help="what chooses clips, e.g. mbo_video")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = parser.parse_args(arguments)
    try:
        for path in draw(options):
            print(f"wrote {path}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
