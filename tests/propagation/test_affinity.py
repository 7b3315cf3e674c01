"""Propagated labels against worked numbers, published programs and laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slotreel.errors import ConfigError
from slotreel.propagation.affinity import Affinity, Source
from slotreel.propagation.labels import ObjectLabels
from slotreel.propagation.memory import Memory

GOLDEN = Path(__file__).parents[1] / "data" / "propagation_golden.npz"


def dino(top_k: int, radius: float | None, **changes: Any) -> Affinity:
    knobs = {"ties": "keep", "temperature": 0.1, "window": "square", "window_first": True}
    return Affinity(**{"top_k": top_k, "radius": radius, "max_entries": 2**22, **knobs, **changes})


def crw(top_k: int, radius: float | None, temperature: float, **changes: Any) -> Affinity:
    knobs = {"ties": "cut", "temperature": temperature, "window": "disk", "window_first": False}
    return dino(top_k, radius, **{**knobs, **changes})


def normal(tag: str, *shape: int) -> Tensor:
    """Standard normal numbers that depend on the tag only."""
    draw = np.random.RandomState(crc32(tag.encode()))  # legacy: the stored example was drawn so
    return torch.from_numpy(draw.standard_normal(shape).astype(np.float32))


def frames(tag: str, count: int, grid: tuple[int, int], width: int = 6) -> Tensor:
    return F.normalize(normal(tag, count, *grid, width), dim=-1)


SOURCE = F.normalize(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), dim=-1)
LABELS = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
TARGET = F.normalize(torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]]]), dim=-1)


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        (dino(1, None), [1, 0, 0]),
        (dino(2, None), [0.949258, 0, 0]),
        (dino(3, None), [0.949217, 0.017311, 0.000043]),
        (dino(2, 1), [0.999955, 0, 0]),
        (dino(9, None), [0.949217, 0.017311, 0.000043]),  # more than there are
    ],
)
def test_dino_worked_by_hand(affinity: Affinity, expected: list[float]) -> None:
    labels = affinity.gather(TARGET, Source(SOURCE, LABELS), [])
    assert labels[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert labels.sum(-1).tolist()[0] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("top_k", "temperature", "expected"),
    [(2, 0.05, [1, 0, 0]), (4, 0.05, [0.997151, 0, 0]), (3, 0.2, [0.896378, 0, 0])],
)
def test_crw_worked_by_hand(top_k: int, temperature: float, expected: list[float]) -> None:
    source = Source(SOURCE, LABELS)
    labels = crw(top_k, None, temperature).gather(TARGET, source, [source])
    assert labels[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_seeded_example_of_smtc() -> None:
    clip = F.normalize(normal("lp_feats", 1, 6, 7, 4, 5)[0], dim=0).permute(1, 2, 3, 0)
    # every source position has a channel of its own, so labels are the weights themselves
    marks = torch.eye(80).view(4, 4, 5, 80)
    sources = [Source(clip[t], marks[place]) for place, t in enumerate([0, 1, 2, 3])]
    weights = crw(3, 2, 0.2).gather(clip[4], sources[0], sources[1:]).flatten(0, 1)[:4]
    best, index = weights.topk(3, dim=1)
    assert index.T.tolist() == [[13, 45, 46, 8], [4, 0, 11, 9], [25, 62, 5, 44]]
    expected = [
        [0.479937, 0.382618, 0.562171, 0.461373],
        [0.407191, 0.354787, 0.233093, 0.343812],
        [0.112872, 0.262595, 0.204735, 0.194816],
    ]
    np.testing.assert_allclose(best.T.numpy(), expected, atol=1e-5)
    assert torch.equal(weights.count_nonzero(dim=1), torch.full((4,), 3))


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


def by_definition(
    affinity: Affinity, target: Tensor, first: Source | None, recent: list[Source]
) -> Tensor:
    """The rule for one target after the other, all sources at once."""
    h, w = target.shape[:2]
    windowed = [affinity.window_first] * (first is not None) + [True] * len(recent)
    sources = ([first] if first else []) + recent
    cells = [(y, x) for y in range(h) for x in range(w)]
    labels = torch.cat([source.labels.flatten(0, 1) for source in sources])
    everything = torch.cat([source.features.flatten(0, 1) for source in sources])
    cosines = (target.flatten(0, 1) @ everything.T).numpy() / affinity.temperature
    result = []
    for (y, x), row in zip(cells, cosines, strict=True):
        seen = [
            not limited or inside(affinity, abs(v - y), abs(u - x))
            for limited in windowed
            for v, u in cells
        ]
        weights = np.exp(np.where(seen, row, -np.inf) - row[seen].max())
        order = np.argsort(-weights, kind="stable")
        kept = order[: affinity.top_k]
        if affinity.ties == "keep":
            kept = np.flatnonzero(weights >= weights[kept[-1]] * (1 - 1e-5))
        chosen = torch.from_numpy(weights[kept] / weights[kept].sum()).float()
        result.append(chosen @ labels[torch.from_numpy(kept)])
    return torch.stack(result).view(h, w, -1)


def inside(affinity: Affinity, dy: int, dx: int) -> bool:
    if affinity.radius is None:
        return True
    if affinity.window == "square":
        return max(dy, dx) <= affinity.radius
    return dy**2 + dx**2 < affinity.radius**2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    radius=st.sampled_from([None, 1, 2, 2.5, 4]),
    window=st.sampled_from(["square", "disk"]),
    window_first=st.booleans(),
    ties=st.sampled_from(["keep", "cut"]),
    top_k=st.integers(1, 6),
    has_first=st.booleans(),
    max_entries=st.sampled_from([1, 200, 2**22]),
)
def test_tiles_give_what_the_rule_says(
    seed: int, radius: float | None, has_first: bool, **knobs: Any
) -> None:
    clip = frames(f"rule {seed}", 4, (4, 5))
    labels = normal(f"labels {seed}", 3, 4, 5, 2).softmax(-1)
    sources = [Source(clip[t], labels[t]) for t in range(3)]
    first = sources.pop(0) if has_first else None
    affinity = dino(radius=radius, **knobs)
    got = affinity.gather(clip[3], first, sources)
    torch.testing.assert_close(
        got, by_definition(affinity, clip[3], first, sources), atol=1e-5, rtol=0
    )


def test_ties_are_kept_or_cut() -> None:
    flat = torch.zeros(1, 4, 2)
    flat[..., 0] = 1
    source = Source(flat, torch.eye(4).view(1, 4, 4))
    assert torch.allclose(dino(2, None).gather(flat, source, []), torch.full((1, 4, 4), 0.25))
    cut = dino(2, None, ties="cut").gather(flat, source, [])
    assert cut.sort(dim=-1).values.tolist() == [[[0, 0, 0.5, 0.5]] * 4]


def test_similarities_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    weights = Affinity._weights

    def spy(self: Affinity, logits: Tensor) -> Tensor:
        sizes.append(logits.numel())
        return weights(self, logits)

    monkeypatch.setattr(Affinity, "_weights", spy)
    clip = frames("bounded", 4, (12, 10))
    sources = [Source(x, torch.ones(12, 10, 1)) for x in clip[:3]]
    for window_first in (True, False):
        affinity = dino(3, 2, window_first=window_first, max_entries=2000)
        affinity.gather(clip[3], sources[0], sources[1:])
    assert max(sizes) <= 2000
    assert len(sizes) > 10


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"top_k": 0}, "propagation.top_k=5"),
        ({"ties": "kept"}, "did you mean: keep"),
        ({"temperature": 0}, "propagation.temperature=0.1"),
        ({"radius": 0}, "propagation.radius=12"),
        ({"window": "circle"}, "disk, square"),
        ({"max_entries": 0}, "propagation.max_entries="),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        dino(**{"top_k": 5, "radius": 12, **wrong})
