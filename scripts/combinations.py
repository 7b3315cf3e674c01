#!/usr/bin/env python
"""Say which combinations of options run and which are refused, with what to type instead.

    python scripts/combinations.py              build all without weights, print what is refused
    python scripts/combinations.py --markdown   the same into docs/combinations.md
    python scripts/combinations.py --check      only say whether that page is up to date
    python scripts/combinations.py --rows       choose anew what the slow tests train

New options are found in conf/. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from slotreel.combinations.covering import Covering, read, reasons, written
from slotreel.combinations.factors import factors
from slotreel.combinations.options import Options
from slotreel.combinations.page import markdown, text
from slotreel.combinations.refusals import Judged, blame, judge, products
from slotreel.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, ROWS = ROOT / "docs" / "combinations.md", ROOT / "tests" / "contracts" / "covering.txt"


def page(options: Options, judged: dict[str, Judged]) -> str:
    """The content of docs/combinations.md."""
    known = factors(options)
    _, rows = read(ROWS.read_text(encoding="utf-8"), options, known)
    return markdown(options, judged, blame(options, _all(judged)), (len(rows), len(known)))


def _all(judged: dict[str, Judged]) -> Judged:
    return {point: reason for points in judged.values() for point, reason in points.items()}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--markdown", action="store_true", help="write docs/combinations.md")
    what.add_argument("--check", action="store_true", help="status 1 if the page is outdated")
    what.add_argument("--rows", action="store_true", help="write tests/contracts/covering.txt")
    chosen = parser.parse_args(arguments)
    logging.getLogger("slotreel").setLevel(logging.ERROR)  # random weights are meant here
    options = Options(ROOT / "conf")
    if chosen.rows:
        covering = Covering(options, factors(options))
        return _write(ROWS, written(covering, covering.rows(reasons(options))))
    judged = {name: judge(options, points) for name, points in products(options).items()}
    if chosen.markdown:
        return _write(PAGE, page(options, judged))
    if chosen.check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page(options, judged):
            return 0
        print(f"error: {PAGE} is outdated; type python scripts/combinations.py --markdown")
        return 1
    print(text(judged, blame(options, _all(judged))))
    return 0


def _write(path: Path, content: str) -> int:
    write_text(path, content)
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
