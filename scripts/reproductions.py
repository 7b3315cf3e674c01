#!/usr/bin/env python
"""Write docs/reproductions.md: published numbers, ours beside them, and the command of each.

    python scripts/reproductions.py            write the page
    python scripts/reproductions.py --check    only say whether it is up to date

Published numbers stand in conf/experiment/*.yaml. Ours stand in docs/measured.json, by experiment,
protocol and metric: {"value": 0.61, "seeds": 1, "hours": 0.5, "hardware": "one A100", "date": ...}.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from slotreel.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, MEASURED = ROOT / "docs" / "reproductions.md", ROOT / "docs" / "measured.json"
HEAD = """# Published numbers and ours

Made by `scripts/reproductions.py`; scores in percent. A number is compared only under the protocol
it was published with, on all of that protocol's videos. `not run yet` means what it says.

| experiment | command | protocol | metric | published | ours (seeds) | hardware, hours | source |
|---|---|---|---|---:|---|---|---|
"""


def page(conf: Path, measured: dict[str, Any]) -> str:
    """The whole page as Markdown.

    Args:
        conf: folder of experiments.
        measured: content of docs/measured.json.
    """
    rows = []
    for file in sorted(conf.glob("*.yaml")):
        for paper in yaml.safe_load(file.read_text(encoding="utf-8")).get("published") or []:
            key = f"{paper['protocol']}/{paper['metric']}"
            rows.append(_row(file.stem, paper, measured.get(file.stem, {}).get(key)))
    return HEAD + "".join(rows)


def _row(experiment: str, paper: dict[str, Any], ours: dict[str, Any] | None) -> str:
    program = "eval" if experiment.endswith("_propagation") else "train"
    cells = [
        f"`{experiment}`",
        f"`./{program}.py experiment={experiment}`",
        f"`{paper['protocol']}`",
        f"`{paper['metric']}`",
        f"{100 * paper['value']:.1f}",
        f"{100 * ours['value']:.1f} ({ours['seeds']})" if ours else "not run yet",
        f"{ours['hardware']}, {ours['hours']}" if ours else "",
        paper["source"],
    ]
    return f"| {' | '.join(cells)} |\n"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if outdated")
    options = parser.parse_args(arguments)
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    text = page(ROOT / "conf" / "experiment", measured)
    if options.check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"error: {PAGE} is outdated; type python scripts/reproductions.py", file=sys.stderr)
        return 1
    write_text(PAGE, text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
