"""A copy of code and configuration, so that editing does not change jobs that wait or come back."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from slotreel.composing import CONF
from slotreel.files import write_json
from slotreel.runtime.provenance import CODE, describe_code, uncommitted

ROOT = CONF.parent
MARK = "SLOTREEL_SNAPSHOT"  # set for a process that runs from a copy, and for its jobs
PATCH = "code.patch"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


def take(sweep: Path, folders: Sequence[Path] = ()) -> Path:
    """Copy entry points, src/ and conf/ to ``sweep/code/<hash>``; the same content is copied once.

    Beside them ``code.json`` tells the commit and ``code.patch`` what was not committed.

    Args:
        sweep: folder of the sweep.
        folders: further configuration (``--config-dir``), copied to ``config_dir_0`` and so on.
    """
    sources = {path.name: path for path in [*sorted(ROOT.glob("*.py")), ROOT / "src", CONF]}
    sources |= {f"config_dir_{i}": folder for i, folder in enumerate(folders)}
    code = sweep / "code"
    code.mkdir(parents=True, exist_ok=True)
    target = code / _digest(sources)
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=code, prefix=".") as temporary:
        copy = Path(temporary) / "copy"
        for name, source in sources.items():
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=_LEFT_OUT)
            else:
                copy.mkdir(exist_ok=True)
                shutil.copy2(source, copy / name)
        write_json(copy / CODE, describe_code())
        (copy / PATCH).write_bytes(uncommitted())
        os.replace(copy, target)
    return target


def restart(copy: Path, arguments: Sequence[str], folders: Sequence[str]) -> None:
    """Go on as the same command of the copy; does not return.

    Args:
        copy: made by ``take``.
        arguments: of this command.
        folders: its ``--config-dir``, as typed.
    """
    moved = {folder: str(copy / f"config_dir_{i}") for i, folder in enumerate(folders)}
    typed = [_moved(argument, moved) for argument in arguments]
    os.environ[MARK] = str(copy)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(copy / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    sys.stdout.flush()
    sys.stderr.flush()
    program = str(copy / Path(sys.argv[0]).name)
    os.execv(sys.executable, [sys.executable, program, *typed])


def _moved(argument: str, moved: dict[str, str]) -> str:
    head, equals, value = argument.rpartition("=")
    if head == "--config-dir":
        return head + equals + moved.get(value, value)
    return moved.get(argument, argument)


def _digest(sources: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, source in sources.items():
        for path in _files(source):
            where = Path(name) / path.relative_to(source)
            digest.update(f"{where}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for folder, names, files in os.walk(source):
        left_out = _LEFT_OUT(folder, [*names, *files])
        names[:] = sorted(set(names) - left_out)
        yield from (Path(folder) / name for name in sorted(set(files) - left_out))
