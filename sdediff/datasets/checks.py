"""Checks of data: types, empty sets, values outside the declared range or between levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.datasets.errors import DataError
from sdediff.datasets.stored_rows import StoredRows

Range = tuple[float, float]
# Number of values handled at once: memory-mapped sets may be larger than the memory.
_AT_ONCE = 1 << 18


def interval(given: Sequence[float], what: str) -> Range:
    """Two finite numbers lo < hi, as floats; DataError beginning with `what` otherwise."""
    try:
        low, high = (float(v) for v in given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise DataError(f"{what}={given}: give two finite numbers, the lower first, such as (0, 255)")
    return low, high


def numbers(given: Any, name: str, axes: int = 2) -> Any:
    """Real numbers as an array, a memory map or StoredRows as it is; DataError when empty or with too few axes."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given
    x: Any = given if isinstance(given, np.ndarray | StoredRows) else np.asarray(given)
    if x.dtype.kind not in "iuf":
        raise DataError(f"{name}: values of type {x.dtype}: give integers or real numbers")
    if x.ndim < axes:
        raise DataError(f"{name}: shape {x.shape}: give (N, ...), such as x[:, None] for one value a sample")
    if x.size == 0:
        raise DataError(f"{name}: empty, shape {x.shape}: give at least one sample of at least one value")
    return x


def pieces(rows: int, dims: int) -> Iterator[slice]:
    """Slices that cover `rows` samples of `dims` values each, a bounded number of values at a time."""
    step = max(1, _AT_ONCE // max(1, dims))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def checked(x: Any, levels: int | None, bounds: Range | None, name: str) -> list[int]:
    """The rows of x (N, *shape) with NaN or Inf; DataError for values outside `bounds` or off its levels."""
    if x.dtype.kind in "iu" and _always_valid(np.iinfo(x.dtype), levels, bounds):
        return []
    bad: list[int] = []
    off, least, most = -1, math.inf, -math.inf
    low, high = bounds or (-math.inf, math.inf)
    for part in pieces(len(x), math.prod(x.shape[1:])):
        values = np.asarray(x[part], np.float64).reshape(part.stop - part.start, -1)
        finite = np.isfinite(values).all(axis=1)
        bad.extend((part.start + np.flatnonzero(~finite)).tolist())
        good = values[finite]
        least, most = min(least, good.min(initial=math.inf)), max(most, good.max(initial=-math.inf))
        if levels is not None and off < 0:
            k = (good - low) / (high - low) * (levels - 1)
            # Levels stored as float32 fractions, such as k/255, are off by up to 1e-5 of a level.
            between = np.flatnonzero((np.abs(k - np.rint(k)) > 1e-3).any(axis=1))
            off = part.start + int(np.flatnonzero(finite)[between[0]]) if between.size else -1
    given = f"[{low:g}, {high:g}]" + (f" of {levels} levels" if levels else "")
    if least < low or most > high:
        raise DataError(
            f"{name}: values in [{least:g}, {most:g}] leave the declared range {given}: "
            "give range= (and levels=) that hold them"
        )
    if off >= 0:
        raise DataError(
            f"{name}: row {off} holds values between the levels of the declared range {given}: "
            "give other levels= or range=, or levels=None for continuous data"
        )
    return bad


def _always_valid(kind: np.iinfo, levels: int | None, bounds: Range | None) -> bool:
    """Whether every value of an integer type lies within the bounds and on a level."""
    if bounds is None:
        return True
    low, high = bounds
    every_integer = levels is None or (high - low == levels - 1 and low == int(low))
    return every_integer and low <= kind.min and kind.max <= high
