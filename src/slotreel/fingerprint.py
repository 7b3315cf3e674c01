"""What a number depends on beside its settings: code, libraries, files of data, weights."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ("av", "numpy", "pillow", "scikit-learn", "scipy", "timm", "torch", "torchvision")


def digest(content: Any) -> str:
    """Hash of anything JSON can hold; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_version(package: Path = PACKAGE, folders: Iterable[str] = (".",)) -> str:
    """Hash of every source file of a package, or of some of its folders."""
    sources = sorted(path for folder in folders for path in (package / folder).rglob("*.py"))
    return digest({str(p.relative_to(package)): _content(p) for p in sources})


CODE = code_version()  # of the code that was loaded: files may be edited while a run goes on


@functools.cache
def library_versions() -> dict[str, str]:
    """Installed version of each library that frames or scores pass through."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # e.g. built from source
            found[name] = "unknown"
    return found


def outside_code(settings: Any) -> dict[str, str]:
    """Hash of the source file of each ``_target_`` that is not slotreel's own."""
    found = {}
    for target in sorted({v for key, v in _leaves(settings) if key == "_target_"}):
        name = str(target)
        while name and name not in sys.modules:
            name = name.rpartition(".")[0]
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and PACKAGE not in Path(file).resolve().parents:
            found[str(target)] = _content(Path(file))
    return found


def files_version(settings: Any, ignore: Path) -> str:
    """Hash of names, sizes and times of all files at or below the paths among ``settings``.

    Contents are not read, so that a large archive costs seconds. Files that were copied look
    changed.

    Args:
        settings: nested mappings and sequences; a string that names an existing file or folder
            counts as a path.
        ignore: a folder whose files do not count.
    """
    roots = {Path(v).resolve() for _, v in _leaves(settings) if _is_path(v)}
    return digest([line for root in sorted(roots) for line in _listing(root, ignore.resolve())])


def weights_version(module: nn.Module) -> str:
    """Hash of all parameters and buffers, those included that are not saved."""
    summary = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        values = tensor.detach().cpu().contiguous()
        summary.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        summary.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return summary.hexdigest()


def _leaves(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not a container, with the key it stands under."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _leaves(value, str(name))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _leaves(value, key)
    else:
        yield key, settings


def _is_path(value: Any) -> bool:
    try:
        return isinstance(value, str) and value != "" and Path(value).exists()
    except (OSError, ValueError):  # too long for a name, or a zero byte
        return False


def _listing(root: Path, ignore: Path) -> list[str]:
    """One line per file at or below ``root``; links to folders are followed once."""
    if root.is_file():
        return [_line(root)]
    lines, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders.sort()
        real = os.path.realpath(folder)
        if real in seen or Path(real) == ignore:
            subfolders.clear()
            continue
        seen.add(real)
        lines += [_line(Path(folder, name)) for name in names]
    return sorted(lines)


def _line(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:  # e.g. a link to nowhere
        return f"{path} -"
    return f"{path} {facts.st_size} {facts.st_mtime_ns}"
