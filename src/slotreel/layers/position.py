"""Where a token sits: coordinate grids, sine-cosine tables, and position tables at other sizes.

Grids are (h, w), flattened row by row; coordinates come as (row, column).
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from slotreel.errors import ConfigError, nearest

Resize = Literal["antialias", "offset"]


def coordinate_grid(grid: tuple[int, int], like: Tensor | None = None) -> Tensor:
    """Coordinates (h*w, 2) in [-1, 1], the end points on the first and last row and column."""
    rows, columns = (torch.linspace(-1.0, 1.0, n) for n in grid)
    return _pairs(rows, columns, like)


def cell_centres(grid: tuple[int, int], like: Tensor | None = None) -> Tensor:
    """Coordinates (h*w, 2) of the cells' centres when the whole image spans [-1, 1]."""
    rows, columns = ((torch.arange(n) * 2.0 + 1.0) / n - 1.0 for n in grid)
    return _pairs(rows, columns, like)


def _pairs(rows: Tensor, columns: Tensor, like: Tensor | None) -> Tensor:
    both = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    return both if like is None else both.to(device=like.device, dtype=like.dtype)


def sincos(coordinates: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Sine-cosine code of coordinates, a quarter of the width each for sin and cos of each axis.

    Source: Vaswani et al. 2017, section 3.5, applied to two axes.

    Args:
        coordinates: (N, 2), in units of about one cell.
        width: of the code; a multiple of 4.
        temperature: the longest wave is 2 pi times this.

    Returns:
        (N, width): sin(row), cos(row), sin(column), cos(column).

    Raises:
        ConfigError: width is not a multiple of 4.
    """
    if width <= 0 or width % 4:
        raise ConfigError(
            f"sine-cosine positions expect a width in multiples of 4, got {width}; "
            f"take {max(width // 4, 1) * 4} or {(width // 4 + 1) * 4}"
        )
    quarter = width // 4
    step = torch.arange(quarter, device=coordinates.device, dtype=torch.float32) / quarter
    angles = coordinates.float().unsqueeze(-1) * temperature**-step  # (N, 2, width / 4)
    code = torch.stack([angles.sin(), angles.cos()], dim=2)  # (N, axis, sin | cos, width / 4)
    return code.flatten(1).to(coordinates.dtype)


def check_resize(how: str) -> Resize:
    """The way to resize by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if how not in get_args(Resize):
        raise ConfigError(f"backbone.position_resize={how}: {nearest(how, get_args(Resize))}")
    return cast(Resize, how)


def resize_table(
    table: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    num_prefix: int = 0,
    how: Resize = "antialias",
) -> Tensor:
    """A learned position table at another grid, bicubic in float32; untouched at its own grid.

    Args:
        table: (1, num_prefix + h*w, E).
        old: the table's grid.
        new: the grid wanted.
        num_prefix: leading entries that belong to no cell and stay as they are.
        how: ``antialias`` samples to the new size with anti-aliasing (timm, SlotContrast);
            ``offset`` uses the factor (new + 0.1) / old without it (DINO, DINOv2, SMTC).

    Returns:
        (1, num_prefix + new h*w, E).
    """
    if tuple(old) == tuple(new):
        return table
    prefix, cells = table[:, :num_prefix], table[:, num_prefix:]
    image = rearrange(cells.float(), "a (h w) e -> a e h w", h=old[0])
    if how == "antialias":
        image = F.interpolate(image, size=tuple(new), mode="bicubic", antialias=True)
    else:
        factor = [(n + 0.1) / o for n, o in zip(new, old, strict=True)]
        image = F.interpolate(image, scale_factor=factor, mode="bicubic")
    cells = rearrange(image, "a e h w -> a (h w) e").to(table.dtype)
    return torch.cat([prefix, cells], dim=1)
