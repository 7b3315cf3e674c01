"""Find an interpreter that has what slotreel needs. Standard library only, any Python 3."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def ensure_environment() -> None:
    """Restart with ``.venv/bin/python`` if this interpreter lacks slotreel or its packages.

    Jobs and workers started from here run this checkout as well, whatever is installed.

    Also asks OpenMP not to spin while it waits: on a busy machine spinning threads starve each
    other (a step of the default run took 290 ms instead of 92 ms on two shared cores).
    """
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *paths])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if all(find_spec(name) for name in ("slotreel", "hydra", "torch")):
        return
    python = ROOT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(str(python), [str(python), *sys.argv])
    sys.exit(
        f"slotreel is not installed for this Python ({sys.executable}).\n"
        "Type `make install` (makes .venv), or inside your own environment: pip install -e ."
    )
