#!/usr/bin/env python
"""Compare runs without an account: one HTML file, or the table of a paper.

    python scripts/report.py RUNS... -o report.html
    python scripts/report.py RUNS... --tex table.tex --csv table.csv --md table.md
    python scripts/report.py RUNS... --md - --baseline slot_attention --metrics fg_ari_video jf

RUNS: run directories, patterns, or folders that hold runs, e.g. a sweep. Runs that differ in
nothing but the seed are averaged. A FILE of - is the terminal. See docs/reports.md.
"""

from __future__ import annotations

import argparse
import sys

from slotreel.errors import ConfigError, UserError
from slotreel.files import write_text
from slotreel.reporting import tables
from slotreel.reporting.finding import find_runs
from slotreel.reporting.page import Contents, collect, render
from slotreel.reporting.records import read_record

TABLES = {"tex": tables.latex, "csv": tables.as_csv, "md": tables.markdown}


def write_tables(contents: Contents, options: argparse.Namespace) -> None:
    """The files that were asked for; a CSV holds every metric unless some were named."""
    for kind, make in TABLES.items():
        if not (file := getattr(options, kind)):
            continue
        if not contents.comparisons:
            raise ConfigError(f"--{kind} needs scores, and none of these runs has finished")
        metrics = options.metrics or (["all"] if kind == "csv" else [])
        places = tables.places_of(contents.comparisons, metrics)
        _write(file, make(tables.entries_of(contents.comparisons, contents.variants), places))


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
        return
    write_text(file, text)
    print(f"wrote {file} ({len(text.encode()) / 1000:.0f} kB)")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="directories, patterns or folders")
    parser.add_argument("-o", "--out", metavar="FILE", help="the page (default: report.html)")
    parser.add_argument("--tex", metavar="FILE", help="LaTeX table (booktabs)")
    parser.add_argument("--csv", metavar="FILE", help="all numbers, as fractions")
    parser.add_argument("--md", metavar="FILE", help="Markdown table")
    parser.add_argument("--baseline", metavar="VARIANT", help="a part of its name; default: first")
    parser.add_argument(
        "--metrics", nargs="+", default=[], help="of the tables, e.g. fg_ari_video; or all"
    )
    options = parser.parse_args(arguments)
    try:
        records = [read_record(directory) for directory in find_runs(options.runs)]
        contents = collect(records, options.baseline)
        write_tables(contents, options)
        if options.out or not any(getattr(options, kind) for kind in TABLES):
            _write(options.out or "report.html", render(contents))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for record in contents.records:
        for problem in record.problems:
            print(f"{record.directory}: {problem}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
