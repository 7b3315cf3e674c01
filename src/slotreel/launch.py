"""Find an interpreter that has what slotreel needs. Standard library only, any Python 3."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def ensure_environment() -> None:
    """Restart with ``.venv/bin/python`` if this interpreter lacks slotreel or its packages."""
    if all(find_spec(name) for name in ("slotreel", "hydra", "torch")):
        return
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(str(python), [str(python), *sys.argv])
    sys.exit(
        f"slotreel is not installed for this Python ({sys.executable}).\n"
        "Type `make install` (makes .venv), or inside your own environment: pip install -e ."
    )
