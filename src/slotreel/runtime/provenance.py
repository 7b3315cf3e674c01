"""Where a run comes from: its choices, its code, its job."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CODE = "code.json"  # in a copy of the code: what the repository said when it was made
PACKAGES = ("slotreel", "torch", "torchvision", "timm", "numpy", "hydra-core", "wandb", "av")
_NOT_PART_OF_A_VARIANT = (  # none of them changes what is learnt, or the seed alone does
    "seed", "name", "resume", "clone", "init_from", "logger", "paths", "hydra", "sweep=",
    "sweep_name", "cluster", "trainer.device",
    "trainer.num_workers", "trainer.num_threads", "trainer.media_clips", "trainer.media_frames",
)  # fmt: skip


def describe(
    choices: Mapping[str, Any],
    overrides: list[str],
    config: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Flat facts for comparing runs.

    ``choice/<group>`` is the option of each group, ``variant`` what was typed without the seed: the
    key to average seeds by (``overrides`` as a list). ``git`` and ``dirty`` tell
    the code, ``slurm_job`` the job, ``version/<package>`` the libraries.

    Args:
        choices: option of each group.
        overrides: what was typed.
        config: the resolved configuration.
        before: facts of the run whose configuration this one goes on with; what was typed now
            comes on top.
    """
    typed = [o for o in overrides if not _is_apart(_key(o))]
    named = {_key(override) for override in overrides}
    facts: dict[str, Any] = {
        f"choice/{group}": option if isinstance(option, str) else None
        for group, option in choices.items()
        if not group.startswith("hydra/") and "@" not in group
    }
    if before is not None:
        same = {g: before.get(g, o) for g, o in facts.items() if g.split("/", 1)[1] not in named}
        facts |= same
        replaced = {_key(override) for override in typed}
        typed += [o for o in before["overrides"] if _key(o) not in replaced]
    facts["choice/losses"] = "+".join(config.get("losses") or {})
    facts["overrides"] = sorted(typed)
    facts["variant"] = " ".join(facts["overrides"]) or "default"
    return facts | describe_code() | describe_packages()


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _is_apart(key: str) -> bool:
    return any(
        key == part or key.startswith((f"{part}.", f"{part}/")) for part in _NOT_PART_OF_A_VARIANT
    )


def describe_packages() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    found = {"version/python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[f"version/{name}"] = version(name)
        except PackageNotFoundError:  # e.g. slotreel from its source
            continue
    return found


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
