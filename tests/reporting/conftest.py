from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.reporting.runs import config, smtc, write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two variants with two seeds each, the second better on every video."""
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        low = rng.uniform(0.4, 0.6, size=20).tolist()
        write_run(tmp_path / f"{seed}_a_seed{seed}", config(seed), low)
        high = [x + 0.1 + 0.02 * seed for x in low]
        write_run(tmp_path / f"{seed + 2}_b_seed{seed}", smtc(seed), high)
    return tmp_path
