"""Whole videos against the numbers of published programs, and what is remembered meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.propagation.affinity import Affinity, Source
from slotreel.propagation.labels import ObjectLabels
from slotreel.propagation.memory import Memory
from tests.propagation.helpers import crw, dino

GOLDEN = Path(__file__).parents[1] / "data" / "propagation_golden.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("max_entries", [2**22, 3000, 1])
@pytest.mark.parametrize("case", ["dino_000", "dino_001", "dino_002"])
def test_reference_of_dino(golden: dict[str, np.ndarray], case: str, max_entries: int) -> None:
    features, first = unit_features(golden, case), golden[f"{case}_first"]
    radius, top_k, recent = golden[f"{case}_conf"].tolist()
    affinity = dino(top_k, radius or None, max_entries=max_entries)
    memory = Memory(recent, first_frame=True, pad_first=False)
    labels = object_labels(first, 8, "nearest", "per_channel", "labels")
    for t, maps in enumerate(propagated(features, labels, affinity, memory), start=1):
        np.testing.assert_allclose(maps, golden[f"{case}_soft"][t - 1], atol=2e-6)
        np.testing.assert_array_equal(labels.read(t, maps).labels, golden[f"{case}_label"][t - 1])


@pytest.mark.parametrize("max_entries", [2**22, 3000, 1])
@pytest.mark.parametrize("case", ["crw_000", "crw_001", "crw_002"])
def test_reference_of_crw(golden: dict[str, np.ndarray], case: str, max_entries: int) -> None:
    features, first = unit_features(golden, case), golden[f"{case}_first"]
    radius, top_k, recent, temperature = golden[f"{case}_conf"].tolist()
    affinity = crw(int(top_k), radius, temperature, max_entries=max_entries)
    memory = Memory(int(recent), first_frame=True, pad_first=True)
    labels = object_labels(first, 1, "bilinear", "none", "masks")
    for t, maps in enumerate(propagated(features, labels, affinity, memory), start=1):
        np.testing.assert_allclose(maps, golden[f"{case}_soft"][t - 1], atol=2e-6)


def unit_features(golden: dict[str, np.ndarray], case: str) -> Tensor:
    return F.normalize(torch.from_numpy(golden[f"{case}_feat"]), dim=-1)


def object_labels(first: np.ndarray, cell: int, *how: Any) -> ObjectLabels:
    grid = (first.shape[0], first.shape[1])
    size = (cell * grid[0], cell * grid[1])
    names = ("first_label", "output_norm", "read_out")
    knobs = dict(zip(names, how, strict=True))
    return ObjectLabels(first, grid=grid, size=size, device=torch.device("cpu"), **knobs)


def propagated(
    features: Tensor, labels: ObjectLabels, affinity: Affinity, memory: Memory
) -> list[Tensor]:
    """Label maps of frames 1, 2, ..."""
    memory.begin(Source(features[0], labels.maps))
    maps = []
    for target in features[1:]:
        maps.append(affinity.gather(target, memory.first, memory.recent))
        memory.add(Source(target, maps[-1]))
    return maps


@pytest.mark.parametrize("case", ["crw_000", "crw_001", "crw_002"])
def test_memory_indices_of_crw(golden: dict[str, np.ndarray], case: str) -> None:
    index = golden[f"{case}_index"]
    recent = index.shape[1] - 1
    kept = remembered(len(index), recent, first_frame=True, pad_first=True)
    # the first ``recent`` entries of the extended clip are copies of frame 0
    assert kept == np.maximum(index[1:] - recent, 0).tolist()


def test_memory_of_three_recent_frames() -> None:
    padded = remembered(4, 3, first_frame=True, pad_first=True)
    assert padded == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2]]
    growing = remembered(6, 3, first_frame=True, pad_first=False)
    assert growing == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 2, 3, 4]]
    forgetting = remembered(5, 2, first_frame=False, pad_first=False)
    assert forgetting == [[0], [0, 1], [1, 2], [2, 3]]
    assert remembered(4, 0, first_frame=True, pad_first=True) == [[0], [0], [0]]
    with pytest.raises(ConfigError, match=r"propagation\.first_frame=true"):
        Memory(0, first_frame=False, pad_first=True)


def remembered(num_frames: int, recent: int, **knobs: bool) -> list[list[int]]:
    """Frames in memory when frame 1, 2, ... comes; the number of a frame is its only feature."""
    memory = Memory(recent, **knobs)
    marks = [Source(torch.tensor(float(t)), torch.zeros(())) for t in range(num_frames)]
    memory.begin(marks[0])
    kept = []
    for mark in marks[1:]:
        first = [] if memory.first is None else [memory.first]
        kept.append([int(source.features) for source in [*first, *memory.recent]])
        memory.add(mark)
    return kept
