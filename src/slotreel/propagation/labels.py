"""Label maps: those that are propagated, made of what is known of frame 0, and their read-out.

h w grid, H W pixels the model sees, C label channels, J joints.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slotreel.types import Prediction

NO_LABEL = 255
JOINT_SIGMA = 0.5  # cells
JOINT_REACH = 1  # cells: three sigma, whole cells only
BEST_CELLS = 3
FirstLabel = Literal["nearest", "bilinear"]
INTERPOLATION = {"nearest": "nearest-exact", "bilinear": "bilinear"}  # pixel centres aligned
OutputNorm = Literal["none", "per_channel"]
ReadOut = Literal["labels", "masks"]


class Labelling(Protocol):
    """What is propagated through one video.

    Attributes:
        maps: of frame 0, float32 (h, w, C).
    """

    maps: Tensor

    def given(self) -> Prediction:
        """What is said of frame 0."""

    def read(self, frame: int, maps: Tensor) -> Prediction:
        """What maps (h, w, C) say of a later frame."""


class ObjectLabels:
    """Channels are the ids of a label map: 0 the background, then 1 to the largest of frame 0.

    255 in frame 0 means that there is no label: such pixels give nothing to any channel. An id
    that is missing, or too small to be met by the grid, keeps a channel of zeros.

    Source: the evaluation programs of DINO (``nearest``, ``per_channel``, ``labels``) and CRW
    (``bilinear``, ``none``, ``masks``).
    Differs: in DINO's program 255 is an id, ids end with the largest one the grid meets, and a
    constant channel becomes NaN in the normalisation and wins everywhere; here it stays as it is.

    Args:
        labels: uint8 (H0, W0) of frame 0.
        grid: (h, w).
        size: (H, W).
        first_label: ``nearest``: one id per cell; ``bilinear``: shares of ids, from interpolation.
        output_norm: ``per_channel`` stretches each channel to [0, 1] after upsampling to (H, W).
        read_out: ``labels``: argmax at (H, W), and frame 0 exactly as given; ``masks``: soft maps.
        device: of the maps.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        grid: tuple[int, int],
        size: tuple[int, int],
        first_label: FirstLabel,
        output_norm: OutputNorm,
        read_out: ReadOut,
        device: torch.device,
    ) -> None:
        self.labels = np.where(labels == NO_LABEL, 0, labels).astype(np.uint8)
        self.size, self.output_norm, self.read_out = size, output_norm, read_out
        ids = torch.tensor(np.ascontiguousarray(labels), device=device)
        resize = partial(F.interpolate, size=grid, mode=INTERPOLATION[first_label])
        # one id at a time: a one-hot map of all ids at full size may be large
        planes = [
            resize((ids == i)[None, None].float())[0, 0] for i in range(int(self.labels.max()) + 1)
        ]
        self.maps = torch.stack(planes, dim=-1)

    def given(self) -> Prediction:
        """Frame 0: its labels, or its own maps as soft masks."""
        if self.read_out == "labels":
            return Prediction(0, labels=self.labels)
        return self.read(0, self.maps)

    def read(self, frame: int, maps: Tensor) -> Prediction:
        """Labels uint8 (H, W), or soft masks (C, h, w), (C, H, W) if they are stretched."""
        masks = maps.permute(2, 0, 1)
        if self.read_out == "labels" or self.output_norm == "per_channel":
            masks = F.interpolate(masks[None], self.size, mode="bilinear", align_corners=False)[0]
        if self.output_norm == "per_channel":
            masks = stretch(masks)
        if self.read_out == "masks":
            return Prediction(frame, masks=masks, first_label=0)
        return Prediction(frame, labels=masks.argmax(0).to(torch.uint8).cpu().numpy())


def stretch(masks: Tensor) -> Tensor:
    """Each channel of (C, H, W) from its minimum and maximum to 0 and 1; constant ones stay."""
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    span = high - low
    return torch.where(span > 0, (masks - low) / span.where(span > 0, 1.0), masks)


class JointLabels:
    """Channels are joints: a small Gaussian each, read as the mean of its best cells.

    The cell of column x is at pixel ``x / w`` times the frame's width, without half a cell.

    Source: JHMDB in the evaluation program of CRW (Jabri et al. 2020, arXiv:2006.14613).
    Differs: the Gaussian, centred at the nearest cell, is cut one cell away on all sides; CRW's
    goes on to a second cell above and to the left (3e-4 of the peak). There is no background
    channel: it has no influence on the joints.

    Args:
        points: float64 (J, 2), x y in pixels of the frame; NaN where there is none.
        grid: (h, w).
        frame: (height, width) of the frame that ``points`` belong to, pixels.
        device: of the maps.
    """

    def __init__(
        self,
        points: np.ndarray,
        *,
        grid: tuple[int, int],
        frame: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.points = points
        self.scale = np.array([frame[1] / grid[1], frame[0] / grid[0]])  # pixels per cell, x y
        cells = torch.from_numpy(points / self.scale).to(device, torch.float32)
        self.maps = joint_maps(cells, grid)

    def given(self) -> Prediction:
        """Frame 0: its joints, those without annotation unseen."""
        return Prediction(0, points=np.where(np.isnan(self.points), -1.0, self.points))

    def read(self, frame: int, maps: Tensor) -> Prediction:
        """Joints float64 (J, 2), x y in pixels of the frame; (-1, -1) where a map is all zero."""
        cells = joint_cells(maps).double().cpu().numpy()
        return Prediction(frame, points=np.where(cells < 0, -1.0, cells * self.scale))


def joint_maps(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Gaussians with peak 1 at the cells nearest to (J, 2), x y, NaN giving zeros: (h, w, J)."""
    x, y = (cells + 0.5).floor().unbind(-1)
    dx = torch.arange(grid[1], device=cells.device)[None, :, None] - x
    dy = torch.arange(grid[0], device=cells.device)[:, None, None] - y
    near = (dx.abs() <= JOINT_REACH) & (dy.abs() <= JOINT_REACH)  # False for NaN
    return torch.exp(-(dx**2 + dy**2) / (2 * JOINT_SIGMA**2)).where(near, 0.0)


def joint_cells(maps: Tensor) -> Tensor:
    """Weighted mean of the best cells of each map (h, w, J): x y (J, 2), -1 for all-zero maps."""
    flat = maps.flatten(0, 1)
    weights, index = flat.topk(min(BEST_CELLS, len(flat)), dim=0)
    total = weights.sum(0)
    x, y = index % maps.shape[1], index // maps.shape[1]
    cells = torch.stack([(x * weights).sum(0), (y * weights).sum(0)], dim=-1) / total[:, None]
    return cells.where((total > 0)[:, None], -1.0)
