"""Annotation of the Berkeley and Freiburg motion sets: regions coded by grey level or colour."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from slotreel.errors import DataError

log = logging.getLogger(__name__)
SUFFIXES = (".ppm", ".png", ".pgm")  # the first that exists is taken: a .pgm may merge colours


def annotation_files(folder: Path) -> dict[int, Path]:
    """Annotations of a sequence by the last number of their names, one per number.

    Files with PROB in their name are not annotations. Of several for a number, colour is preferred.
    """
    found: dict[int, Path] = {}
    entries = list(folder.iterdir()) if folder.is_dir() else []
    for file in sorted(entries, reverse=True):
        digits = re.findall(r"\d+", file.stem)
        kind = file.suffix.lower()
        if kind not in SUFFIXES or "PROB" in file.name or file.name[0] == "." or not digits:
            continue
        known = found.get(int(digits[-1]))
        if known is None or SUFFIXES.index(kind) < SUFFIXES.index(known.suffix.lower()):
            found[int(digits[-1])] = file
    return dict(sorted(found.items()))


def read_codes(path: Path) -> np.ndarray:
    """Code of each pixel, int64 (H, W): the grey level, or red * 65536 + green * 256 + blue.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with Image.open(path) as image:
            values = np.array(image).astype(np.int64)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot read the annotation {path}: {error}; copy it again") from error
    if values.ndim == 2:
        return values
    if values.shape[2] != 3:
        raise DataError(
            f"the annotation {path} has {values.shape[2]} channels: expected grey levels or red, "
            "green and blue; copy it again from the archive"
        )
    return values @ np.array([65536, 256, 1])


def defined_codes(folder: Path) -> list[int]:
    """Codes of the regions in the order of the definition file (*.dat), background first.

    Returns [] without such a file. It gives each region a line ``Scale of region N:`` and, on the
    next, its code.
    """
    files = sorted(folder.glob("*.dat"))
    if not files:
        return []
    text = files[0].read_text(encoding="utf-8", errors="replace")
    count = re.search(r"number of regions:\s*(\d+)", text, re.IGNORECASE)
    codes = [int(code) for code in re.findall(r"(?i)scale of region\s*\d+:\s*(\d+)", text)]
    if count is None or not codes or len(codes) != int(count[1]):
        log.warning("%s does not list its regions as expected and is not used", files[0])
        return []
    return codes


def background_code(maps: Iterable[np.ndarray]) -> int:
    """0 or the largest code: whichever covers more of the outermost pixels; 0 if equal."""
    edges = [np.concatenate([m[0], m[-1], m[1:-1, 0], m[1:-1, -1]]) for m in maps]
    largest = max(int(edge.max()) for edge in edges)
    zeros, most = (sum(int((edge == code).sum()) for edge in edges) for code in (0, largest))
    return 0 if zeros >= most else largest
