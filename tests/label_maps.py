"""Random label maps for the tests of the metrics: uint8 (T, H, W), 255 = void."""

from __future__ import annotations

import numpy as np


def blocks(
    rng: np.random.Generator, num_labels: int, shape: tuple[int, ...], void: float = 0.0
) -> np.ndarray:
    """Labels uint8 (T, H, W) below ``num_labels`` in blocks of 4 pixels, some pixels 255."""
    coarse = rng.integers(0, num_labels, (shape[0], *(-(-x // 4) for x in shape[1:])))
    labels = coarse.astype(np.uint8).repeat(4, 1).repeat(4, 2)[:, : shape[1], : shape[2]].copy()
    labels[rng.random(labels.shape) < void] = 255
    return labels


def scene(
    rng: np.random.Generator, num_objects: int, num_proposals: int, num_frames: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Truth with one id above ``num_objects`` and void, and a prediction; both of a random size."""
    shape = (num_frames, *rng.integers(1, 30, 2))
    truth = blocks(rng, num_objects + 2, shape, void=0.05)  # one id too many
    return truth, blocks(rng, num_proposals + 1, shape)


def rename(labels: np.ndarray, names: np.ndarray | list[int]) -> np.ndarray:
    """Label i becomes names[i]; 255 stays."""
    table = np.full(256, 255, np.uint8)
    table[: len(names)] = names
    return table[labels]
