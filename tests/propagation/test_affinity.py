"""Labels of one frame from those of others: worked numbers, the plain rule, bounds."""

from __future__ import annotations

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
from tests.propagation.helpers import crw, dino


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


@pytest.mark.parametrize("window_first", [True, False])
@pytest.mark.parametrize("max_entries", [300, 900, 2000, 7000])
def test_similarities_are_bounded(
    monkeypatch: pytest.MonkeyPatch, max_entries: int, window_first: bool
) -> None:
    sizes: list[int] = []
    weights = Affinity._weights

    def spy(self: Affinity, logits: Tensor) -> Tensor:
        sizes.append(logits.numel())
        return weights(self, logits)

    monkeypatch.setattr(Affinity, "_weights", spy)
    clip = frames("bounded", 4, (12, 10))
    sources = [Source(x, torch.ones(12, 10, 1)) for x in clip[:3]]
    affinity = dino(3, 3, window_first=window_first, max_entries=max_entries)
    affinity.gather(clip[3], sources[0], sources[1:])
    assert max(sizes) <= max_entries
    assert sum(sizes) > max_entries  # it had to be cut


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
