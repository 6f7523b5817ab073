"""Data against a model's card: shape, number of levels and range of what the network was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sdediff.datasets.checks import DataError, pieces
from sdediff.datasets.sets import DataSet

# Values may lie so far outside of the range, as a share of its width: natural data keep its ends.
_BEYOND = 0.05
# Data that leave so much of the range's lower end unused, in so many rows, were prepared for another range.
_UNUSED, _ROWS = 0.4, 50


class DataWarning(UserWarning):
    """Data that may have been prepared for another network: the message says what was given and what is expected."""


def check_data_set(data: DataSet, card: Mapping[str, Any] | None) -> None:
    """DataError where a data set cannot be what the card says that the network was trained on.

    card: the model card's `data` (shape, levels, range), or None where it says nothing.
    """
    card = card or {}
    shape, levels = card.get("shape"), card.get("levels")
    if shape is not None and tuple(shape) != data.shape:
        raise DataError(f"{data.name} has samples of shape {data.shape}, the model takes {tuple(shape)}")
    if levels is not None and data.levels is not None and data.levels != levels:
        raise DataError(
            f"{data.name} is declared with {data.levels} levels, the model was trained on {levels}: "
            + _levels_line(data, levels)
        )
    bounds = card.get("range")
    if bounds is not None and data.levels is None and data.range is None:
        low, high = _extremes(data)
        _check_range(low, high, len(data), bounds, data.name)


def _levels_line(data: DataSet, levels: int) -> str:
    """What to write: the card's levels where the values fit them."""
    low, high = _extremes(data)
    if low >= 0 and high <= levels - 1:
        return (
            f"its values lie in {low:g}..{high:g}, so write levels={levels}, range=(0, {levels - 1}) "
            f"(--levels {levels} --range 0,{levels - 1})"
        )
    return f"its values lie in {low:g}..{high:g}: give data of {levels} levels, or a model of {data.levels}"


def _extremes(data: DataSet) -> tuple[float, float]:
    """The least and the largest of the finite values, read in pieces."""
    low, high = np.inf, -np.inf
    for part in pieces(len(data), data.dims):
        values = np.asarray(data.x[part])
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def check_states(x: Tensor, card: Mapping[str, Any] | None) -> None:
    """DataError or a DataWarning where states (B, ...) do not look like data in the card's range.

    Refused: another shape, values outside of the range by more than a twentieth of its width, and 50 rows or more that
    leave the lower 40 % of it unused. Fewer such rows are warned of.
    """
    card = card or {}
    shape, bounds = card.get("shape"), card.get("range")
    if shape is not None and tuple(shape) != tuple(x.shape[1:]):
        raise DataError(f"x has samples of shape {tuple(x.shape[1:])}, the model takes {tuple(shape)}")
    if bounds is not None and x.numel():
        _check_range(x.min().item(), x.max().item(), len(x), bounds, "x")


def _check_range(low: float, high: float, rows: int, bounds: Sequence[float], name: str) -> None:
    first, last = bounds
    width = last - first
    if low < first - _BEYOND * width or high > last + _BEYOND * width:
        raise DataError(
            f"{name} has values from {low:.4g} to {high:.4g}, the model was trained on data in [{first:g}, {last:g}]: "
            "map them there, or declare their range (range=, --range)"
        )
    if low > first + _UNUSED * width and high > low:
        message = (
            f"{name} has values from {low:.4g} to {high:.4g} alone, the model was trained on data in "
            f"[{first:g}, {last:g}]: were they prepared for another range? Declare their own (range=, --range)"
        )
        if rows >= _ROWS:
            raise DataError(message)
        warnings.warn(message, DataWarning, stacklevel=4)
