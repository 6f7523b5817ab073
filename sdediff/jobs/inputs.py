"""The input of a job: data of any kind as a `DataSet`, and the states of some of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import samples, shown, whole
from sdediff.datasets import DataError, DataSet, as_samples, read

Range = tuple[float, float]


def data_set(
    data: Any, levels: int | None = None, range: Range | None = None, key: str | None = None, limit: int | None = None
) -> DataSet:
    """A DataSet from a path, an array or tensor (N, ...), or a torch Dataset; rows with NaN or Inf are allowed.

    Files are read by `sdediff.datasets.read`, an .npy memory-mapped; arrays follow its rules: uint8 values have 256
    levels unless levels or range are given, values (N,) become (N, 1), images of levels (N, H, W) (N, 1, H, W). A
    torch Dataset, whose items are x or (x, ...), is gathered in memory.
    """
    if limit is not None and whole("limit", limit) < 1:
        raise DataError(f"limit={limit}: give the number of rows to score, at least 1")
    if isinstance(data, DataSet):
        if (levels, range, key) != (None, None, None):
            raise DataError(f"{data.name} declares its own levels and range: leave levels=, range= and key= out")
        return data if limit is None else data.head(limit)
    if isinstance(data, str | Path):
        return read(data, levels, range, key, limit, allow_bad=True)
    if key is not None:
        raise DataError(f"key={key!r} is for .npz and .parquet files: leave it out")
    x = samples("data", data) if isinstance(data, Tensor | np.ndarray) else _gathered(data, limit)
    if x.ndim == 0:
        raise DataError(f"data={shown(data)}: give rows (N, ...)")
    x = x.detach().cpu().numpy() if isinstance(x, Tensor) and x.dtype != torch.bfloat16 else x
    if isinstance(x, Tensor):  # bfloat16, which numpy lacks
        x = x.detach().float().cpu().numpy()
    x, levels, range = as_samples(x[:limit], levels, range)
    return DataSet(x, levels, range, name="data", allow_bad=True)


def _gathered(data: Any, limit: int | None) -> np.ndarray:
    """The items of a torch Dataset as one array."""
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(
            f"data of type {type(data).__name__}: give a path, an array, a tensor, a DataSet or a torch Dataset"
        )
    size = min(len(data), len(data) if limit is None else limit)
    if size < 1:
        raise DataError("the data set is empty: give at least one sample")
    out: np.ndarray | None = None
    for i in np.arange(size).tolist():
        item = data[i]
        value = np.asarray(item[0] if isinstance(item, tuple | list) else item)
        if out is None:
            out = np.empty((size, *value.shape), value.dtype)
        if value.shape != out.shape[1:]:
            raise DataError(f"item {i} has shape {value.shape}, item 0 has {out.shape[1:]}: give all the same shape")
        out[i] = value
    return out  # type: ignore[return-value]


def states(data: DataSet, rows: Sequence[int], bounds: Range, seed: int | None, dtype: torch.dtype) -> Tensor:
    """The states of some rows (B, ...): integer levels dequantised over `bounds`, continuous values as declared.

    seed: None for the levels themselves, without dequantisation.
    """
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    if data.levels is None or seed is None:
        return data.tensor(range=bounds, dtype=kind, index=rows)
    return data.dequantised(seed=seed, index=rows, range=bounds, dtype=kind)
