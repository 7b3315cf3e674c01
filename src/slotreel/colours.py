"""Colours for label maps: one per label, and the same for the same object in every prediction.

T frames, H W pixels. Labels: 0 background, slot + 1 or object id otherwise, 255 ignore.
"""

from __future__ import annotations

import colorsys

import numpy as np
from scipy.optimize import linear_sum_assignment

from slotreel.metrics.functional import IGNORE, pairwise_iou

BACKGROUND, VOID = (38, 38, 42), (235, 235, 235)


def _colours() -> np.ndarray:
    """256 colours uint8 (256, 3): dark background, strong hues, light grey for ignore."""
    first = (
        "e6194b 3cb44b 4363d8 ffe119 f58231 911eb4 42d4f4 f032e6 "
        "bfef45 fabed4 469990 9a6324 dcbeff 800000 aaffc3 808000"
    ).split()
    table = np.zeros((256, 3), dtype=np.uint8)
    for label in range(1, IGNORE):
        # past the list: steps of the golden angle keep neighbours apart in hue
        shade = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.5 + 0.4 * (label % 2), 0.9)
        table[label] = [round(255 * x) for x in shade]
    table[1 : len(first) + 1] = [list(bytes.fromhex(colour)) for colour in first]
    table[0], table[IGNORE] = BACKGROUND, VOID
    return table


COLOURS = _colours()


def colour_masks(labels: np.ndarray) -> np.ndarray:
    """Label maps uint8 (..., H, W) as colours uint8 (..., H, W, 3)."""
    picture: np.ndarray = COLOURS[labels]
    return picture


def overlay(frame: np.ndarray, labels: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """Colours over a frame, each region outlined; background (0) and ignore (255) stay as they are.

    Args:
        frame: uint8 (H, W, 3).
        labels: uint8 (H, W).
        alpha: weight of the colour, 0 (only outlines) to 1 (only colours).

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if the sizes differ or alpha is not in [0, 1].
    """
    if frame.shape[:2] != labels.shape:
        raise ValueError(
            f"expected labels of the frame's size {frame.shape[:2]}, got {labels.shape}; resize "
            "them with slotreel.data.geometry.nearest_resize"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha in [0, 1], got {alpha}; try alpha=0.55")
    # tables of both summands instead of floating point per pixel; floor keeps the sum <= 255
    kept = ((1 - alpha) * np.arange(256)).astype(np.uint8)
    tints = np.floor(alpha * COLOURS + 0.5).astype(np.uint8)
    shown = (labels > 0) & (labels < IGNORE)
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    picture = np.where(shown[..., None], kept[frame] + tints[labels], frame)
    edge &= shown
    picture[edge] = COLOURS[labels[edge]]
    return picture


def match_colours(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Renumber a prediction so that each slot takes the label of the region it covers best.

    One-to-one (Hungarian on IoU over the whole clip), background included; slots without a partner
    get labels that the reference does not use. A dropped background (label 0) stays 0.

    Args:
        prediction: uint8 (T, H, W).
        reference: uint8 (T, H, W), the truth or another prediction.

    Returns:
        uint8 (T, H, W).
    """
    joint = reference.astype(np.intp).ravel() * 256 + prediction.ravel()
    iou = pairwise_iou(np.bincount(joint, minlength=256 * 256).reshape(256, 256)[:IGNORE])
    if (prediction == 0).any():
        iou[0], iou[:, 0] = 0.0, 0.0
    new = np.zeros(256, dtype=np.uint8)
    new[IGNORE] = IGNORE
    partner = {
        int(slot): int(label)
        for label, slot in zip(*linear_sum_assignment(iou, maximize=True), strict=True)
        if iou[label, slot] > 0
    }
    taken = {0, *_ids(reference).tolist()}
    unused = (label for label in range(1, IGNORE) if label not in taken)
    for slot in _ids(prediction).tolist():
        if slot > 0:
            new[slot] = partner[slot] if slot in partner else next(unused, slot)
    renumbered: np.ndarray = new[prediction]
    return renumbered


def _ids(labels: np.ndarray) -> np.ndarray:
    """Labels in use, without ignore."""
    found = np.unique(labels)
    return found[found < IGNORE]
