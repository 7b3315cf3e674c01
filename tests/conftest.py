"""Shared fixtures. ``--config-dir DIR`` also runs the contract tests on the user's own options."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("WANDB_MODE", "offline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--config-dir", default=None, help="folder with your own options, like conf/")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import ``scripts/NAME.py``, which may change the number of threads, by its name."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives
