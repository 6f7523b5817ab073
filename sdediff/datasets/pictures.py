"""Grids of images, to look at samples."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sdediff._utils.checks import whole
from sdediff._utils.files import expanded
from sdediff.datasets.checks import Range, interval
from sdediff.datasets.errors import DataError, needed

if TYPE_CHECKING:
    from PIL.Image import Image

_BORDER, _GREY, _READABLE = 2, 112, 32


def grid_image(x: Any, columns: int | None = None, range: Range = (-1.0, 1.0), scale: int | None = None) -> Image:
    """A picture of images x (B, C, H, W), C = 1 or 3, in rows of `columns` (near a square by default).

    Values of `range` go to black..white and are clipped. Each value becomes scale x scale pixels, by
    default as many as make the shorter side 32 pixels or more; a border of 2 pixels parts the images.
    DataError: another shape, an empty batch, NaN or Inf (the image is named).
    """
    cells = _pixels(x, interval(range, "range"))
    count, height, width, channels = cells.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    scale = math.ceil(_READABLE / min(height, width)) if scale is None else scale
    if whole("columns", columns) < 1 or whole("scale", scale) < 1:
        raise DataError(f"columns={columns}, scale={scale}: give positive integers")
    columns, rows = min(columns, count), -(-count // columns)
    high, wide = height * scale + _BORDER, width * scale + _BORDER
    sheet = np.full((rows * high + _BORDER, columns * wide + _BORDER, channels), _GREY, np.uint8)
    for i, cell in enumerate(cells):
        top, left = i // columns * high + _BORDER, i % columns * wide + _BORDER
        enlarged = cell.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + high - _BORDER, left : left + wide - _BORDER] = enlarged
    pillow = needed("PIL.Image", "pillow")
    return pillow.fromarray(sheet[..., 0] if channels == 1 else sheet)


def save_grid(
    x: Any,
    path: str | Path,
    columns: int | None = None,
    range: Range = (-1.0, 1.0),
    scale: int | None = None,
) -> Path:
    """Writes `grid_image` of x (B, C, H, W) to a PNG file, whole or not at all, and returns its path.

    DataError: an ending other than .png, a folder that is not there, and what grid_image refuses.
    """
    path = expanded(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a grid is written as PNG: give a name that ends in .png")
    if not path.parent.is_dir():
        raise DataError(f"{path}: no folder {path.parent}: make it first")
    picture = grid_image(x, columns, range, scale)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        picture.save(unfinished, format="PNG")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _pixels(x: Any, bounds: Range) -> np.ndarray:
    """Images (B, C, H, W) as bytes (B, H, W, C)."""
    values = np.asarray(x.detach().cpu().double() if isinstance(x, Tensor) else x, dtype=np.float64)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or values.size == 0:
        raise DataError(f"images of shape {values.shape}: give (B, C, H, W) with C = 1 or 3, B at least 1")
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if bad.size:
        raise DataError(f"image {bad[0]} holds NaN or Inf ({bad.size} of {len(values)} do): leave it out")
    low, high = bounds
    grey = np.rint((values - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return grey.transpose(0, 2, 3, 1)
