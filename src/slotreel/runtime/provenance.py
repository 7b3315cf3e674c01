"""Where a run comes from: its choices, its code, its job."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CODE = "code.json"  # in a copy of the code: what the repository said when it was made
_NOT_PART_OF_A_VARIANT = (
    "seed", "name", "resume", "logger", "paths", "hydra", "sweep=", "sweep_name", "cluster",
)  # fmt: skip


def describe(
    choices: dict[str, Any], overrides: list[str], config: dict[str, Any]
) -> dict[str, Any]:
    """Flat facts for comparing runs.

    ``choice/<group>`` is the option of each group, ``variant`` what was typed without the seed: the
    key to average seeds by. ``git`` and ``dirty`` tell the code, ``slurm_job`` the job.
    """
    facts: dict[str, Any] = {
        f"choice/{group}": option if isinstance(option, str) else None
        for group, option in choices.items()
        if not group.startswith("hydra/") and "@" not in group
    }
    facts["choice/losses"] = "+".join(config.get("losses", {}))
    typed = [o for o in overrides if not o.lstrip("+~").startswith(_NOT_PART_OF_A_VARIANT)]
    facts["variant"] = " ".join(sorted(typed)) or "default"
    return facts | describe_code()


def describe_code() -> dict[str, Any]:
    """``git`` and ``dirty`` tell the code, ``slurm_job`` the job."""
    copied = ROOT / CODE
    if copied.is_file():
        code = json.loads(copied.read_text(encoding="utf-8"))
    else:
        code = {
            "git": _git("rev-parse", "--short=12", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        }
    return {**code, "slurm_job": os.environ.get("SLURM_JOB_ID")}


def uncommitted() -> bytes:
    """What differs from the commit, as a patch; empty outside a repository."""
    command = ["git", "-C", str(ROOT), "diff", "--binary", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
