"""The cut of DAVIS in tests/data, as the unsupervised track wants it too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cut with masks for the unsupervised protocol too."""
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(running.ROOT / "tests" / "data" / "davis", root / "davis")
    shutil.copytree(root / "davis/Annotations", root / "davis/Annotations_unsupervised")
    return root


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two sequences of 213 x 120 pixels alone."""
    root = tmp_path_factory.mktemp("small")
    shutil.copytree(data, root, dirs_exist_ok=True)
    (root / "davis/ImageSets/2017/val.txt").write_text("bmx-trees\ndog\n")
    return root
