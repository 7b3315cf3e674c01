from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "metrics_golden.npz"


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Reference inputs and outputs; tests/data/README.md says where they come from."""
    with np.load(GOLDEN) as stored:
        return {name: stored[name] for name in stored.files}
