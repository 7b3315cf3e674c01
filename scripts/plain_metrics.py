"""Plain implementations that `benchmark_metrics.py` compares with, and the masks it draws.

T frames, H W pixels, N objects, P proposals, C classes, K slots.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from slotreel.metrics import functional
from slotreel.metrics.boundary import tolerance_radius

VOID = 255
NUM_CLASSES = 11  # classes (background and ten objects) and slots of the clips


def ellipses(
    rng: np.random.Generator, count: int, num_frames: int, size: tuple[int, int]
) -> np.ndarray:
    """Ellipses that move steadily: bool (count, T, H, W)."""
    y, x = np.ogrid[: size[0], : size[1]]
    time_axis = np.arange(num_frames)[None, :, None, None]

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (count, 1, 1, 1)) * size[0]

    wide = size[1] / size[0]
    dy = (y - draw(0, 1) - draw(-0.01, 0.01) * time_axis) / draw(0.08, 0.25)
    dx = (x - draw(0, wide) - draw(-0.01, 0.01) * time_axis) / draw(0.08, 0.25)
    inside: np.ndarray = dy**2 + dx**2 < 1
    return inside


def paint(masks: np.ndarray) -> np.ndarray:
    """Masks bool (N, T, H, W) as labels uint8 (T, H, W): mask i is i + 1, later ones in front."""
    labels = np.zeros(masks.shape[1:], dtype=np.uint8)
    for number, mask in enumerate(masks):
        labels[mask] = number + 1
    return labels


def displace(masks: np.ndarray) -> np.ndarray:
    """What a decent model predicts: all masks some pixels off."""
    return np.roll(masks, (2, 3), axis=(-2, -1))


def edge_map(mask: np.ndarray) -> np.ndarray:
    """Boundary of a bool mask (H, W), uint8."""
    edges = np.zeros_like(mask)
    edges[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edges[:-1] |= mask[:-1] ^ mask[1:]
    edges[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edges.view(np.uint8)


def plain_pair(truth: np.ndarray, prediction: np.ndarray, disk: np.ndarray) -> tuple[float, float]:
    """J and F of two bool masks (H, W)."""
    either = np.count_nonzero(truth | prediction)
    j = np.count_nonzero(truth & prediction) / either if either else 1.0
    edge_t, edge_p = edge_map(truth), edge_map(prediction)
    size_t, size_p = np.count_nonzero(edge_t), np.count_nonzero(edge_p)
    if not size_t or not size_p:
        return j, float(size_t == size_p)
    precision = np.count_nonzero(edge_p & cv2.dilate(edge_t, disk)) / size_p
    recall = np.count_nonzero(edge_t & cv2.dilate(edge_p, disk)) / size_t
    return j, 2 * precision * recall / max(precision + recall, 1e-300)


def plain_jf(objects: list[np.ndarray], proposals: list[np.ndarray], matched: bool) -> np.ndarray:
    """J and F, pair by pair: (2, N) of matched masks, else (2, P, N); masks bool (H, W)."""
    radius = tolerance_radius(*objects[0].shape)
    steps = np.arange(-radius, radius + 1) ** 2
    disk = (steps[:, None] + steps <= radius**2).astype(np.uint8)
    if matched:
        pairs = zip(objects, proposals, strict=True)
        return np.array([plain_pair(g, p, disk) for g, p in pairs]).T
    table = [[plain_pair(g, p, disk) for g in objects] for p in proposals]
    return np.moveaxis(np.array(table), -1, 0)


def plain_labels(
    truth: np.ndarray, prediction: np.ndarray, num_objects: int, num_proposals: int, matched: bool
) -> np.ndarray:
    """``plain_jf`` of label maps uint8 (T, H, W); void counts as background if matched."""
    values = []
    for g, p in zip(truth, prediction, strict=True):
        seen = np.ones_like(g, dtype=bool) if matched else g != VOID
        objects = [g == i for i in range(1, num_objects + 1)]
        proposals = [(p == i) & seen for i in range(1, num_proposals + 1)]
        values.append(plain_jf(objects, proposals, matched))
    return np.stack(values, axis=1)


def table_scores(table: np.ndarray) -> list[np.ndarray]:
    """ARI, FG-ARI, mBO, mBO of objects: four float64 (n,)."""
    objects = table[:, 1:]
    return [
        functional.adjusted_rand_index(table),
        functional.adjusted_rand_index(objects),
        functional.best_overlap(functional.pairwise_iou(table), functional.active_classes(table)),
        functional.best_overlap(
            functional.pairwise_iou(objects, outside=table[:, 0]),
            functional.active_classes(objects),
        ),
    ]


def one_hot_scores(truth: Tensor, prediction: Tensor, times: int) -> np.ndarray:
    """ARI and mBO of frames and videos from float32 one-hot masks, as code bases of slots do.

    Args:
        truth: uint8 (B, T, H, W).
        prediction: uint8 (B, T, H, W).
        times: how often the product of the masks is formed; once per score there.

    Returns:
        float64, the scores of ``table_scores`` of all frames, then of all videos.
    """
    tables = []
    for labels, slots in zip(truth, prediction, strict=True):
        t, q = (
            torch.nn.functional.one_hot(x.flatten(1).long(), NUM_CLASSES).float()
            for x in (labels, slots)
        )
        for _ in range(times):
            table = torch.einsum("tnc,tnk->tck", t, q)
        tables.append(table.cpu().numpy().astype(np.int64))
    frames = np.concatenate(tables)
    videos = np.stack(tables).sum(1)
    return np.concatenate([score for table in (frames, videos) for score in table_scores(table)])


def join(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Joint index uint8 of all pixels, the cheapest to form: 11 * 11 pairs fit."""
    index: np.ndarray = (truth * np.uint8(NUM_CLASSES) + prediction).ravel()
    return index


def count_index(index: Callable[[], np.ndarray]) -> None:
    """One count over all clips; it holds no frame's or video's own table, so no score."""
    np.bincount(index())
