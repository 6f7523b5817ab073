"""A data set: stored samples, the meaning of their values, and the maps to the values that a model takes.

Integer data with L levels go to x = lo + (hi - lo)(2k + 1)/(2L), the centre of level k's bin, and are
dequantised to lo + (hi - lo)(k + u)/L with u uniform in [0, 1), as in VDM (Kingma et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff.datasets.checks import DataError, Range, checked, interval, numbers, pieces
from sdediff.datasets.stored_rows import StoredRows
from sdediff.noise.counter import uniforms

Rows = Sequence[int] | np.ndarray | None
# Streams of a seed that no other user of `uniforms` may share.
_DEQUANTISE, _SPLIT = (0xDA7A, 0), (0xDA7A, 1)


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """Samples as stored, x (N, *shape), with the meaning of their values.

    levels: the number L of integer levels, None for continuous data. range: the raw values of the first
    and the last level, (0, L - 1) by default; for continuous data the raw range that `tensor` maps.
    labels: (N, ...) or None. Rows with NaN or Inf are refused, or with allow_bad=True kept and listed in
    `bad_rows`. A memory-mapped x and a StoredRows stay on disk; they are read once, in pieces, to be checked.
    first: the number of the first row of a window of a larger set; `index` and `bad_rows` count in that one.
    DataError: an empty set, values outside the declared range or off its levels, labels of another length.
    """

    x: Any
    levels: int | None = None
    range: Range | None = None
    labels: Any = None
    name: str = "data"
    allow_bad: bool = False
    first: int = 0
    bad_rows: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        levels, bounds = self.levels, self.range
        if levels is not None and not (isinstance(levels, int | np.integer) and levels >= 2):
            raise DataError(f"{self.name}: levels={levels}: give an integer >= 2, None if continuous")
        if bounds is None and levels is not None:
            bounds = (0.0, levels - 1.0)
        if bounds is not None:
            bounds = interval(bounds, f"{self.name}: range")
        x = numbers(self.x, self.name)
        labels = None if self.labels is None else numbers(self.labels, f"{self.name}: labels", axes=1)
        if labels is not None and len(labels) != len(x):
            raise DataError(f"{self.name}: {len(labels)} labels for {len(x)} samples: give one each")
        bad = [self.first + row for row in checked(x, levels, bounds, self.name)]
        if bad and not self.allow_bad:
            raise DataError(
                f"{self.name}: row {bad[0]} holds NaN or Inf ({len(bad)} such rows of {len(x)}): "
                "mend it, or pass allow_bad=True to keep such rows and score the others"
            )
        for key, value in {"x": x, "range": bounds, "labels": labels, "bad_rows": tuple(bad)}.items():
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        values = "continuous" if self.levels is None else f"{self.levels} levels"
        labels = "" if self.labels is None else ", with labels"
        bad = f", {len(self.bad_rows)} bad rows" if self.bad_rows else ""
        return f"DataSet({self.name!r}, {len(self)} x {self.shape}, {values}, range={self.range}{labels}{bad})"

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def dims(self) -> int:
        """The number D of values in a sample."""
        return math.prod(self.shape)

    def tensor(self, range: Range = (-1.0, 1.0), dtype: torch.dtype = torch.float32, index: Rows = None) -> Tensor:
        """Samples (B, *shape) mapped affinely to `range`: all of them, or the rows that `index` names.

        Integer data go to the centres of their bins; continuous data from their declared range, and as
        they are stored when none was declared (`range` then changes nothing).
        """
        return self._mapped(index, range, dtype, None)

    def dequantised(
        self,
        seed: int = 0,
        index: Rows = None,
        range: Range = (-1.0, 1.0),
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Samples (B, *shape) spread uniformly over their bins: lo + (hi - lo)(k + u)/L.

        u depends on (seed, row) alone, so a row has the same value in any batch and order.
        DataError: continuous data.
        """
        self._declared("dequantised values")
        return self._mapped(index, range, dtype, seed)

    def integers(self, index: Rows = None) -> np.ndarray:
        """Level numbers k in 0..L-1, int64 (B, *shape). DataError: continuous data, rows with NaN or Inf."""
        self._declared("level numbers")
        rows = self._rows(index)
        if bad := sorted(set(self.bad_rows).intersection(rows.tolist())):
            raise DataError(f"{self.name}: row {bad[0]} holds NaN or Inf, no level: leave it out of index")
        return self._bins(rows).astype(np.int64)

    def window(self, start: int, stop: int) -> DataSet:
        """Rows start ... stop - 1, copied into memory: whatever happens to a file, they stay what they are."""
        x = np.array(self.x[start - self.first : stop - self.first])
        return DataSet(x, self.levels, self.range, None, self.name, True, start)

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple[DataSet, DataSet]:
        """Two sets in memory, rows in stored order; the second has a `fraction` of them, drawn by `seed`.

        DataError: a fraction that leaves one of them empty.
        """
        size = round(fraction * len(self)) if 0 < fraction < 1 else 0
        if not 0 < size < len(self):
            raise DataError(f"{self.name}: fraction={fraction} of {len(self)} rows leaves one part empty")
        order = np.argsort(uniforms(seed, np.arange(len(self)), _SPLIT, ()), kind="stable")
        return self._subset(order[size:], "train"), self._subset(order[:size], "test")

    def head(self, count: int) -> DataSet:
        """The first `count` rows, which stay where they are: mapped, in a file, or in memory."""
        if count >= len(self):
            return self
        x = self.x.head(count) if isinstance(self.x, StoredRows) else self.x[:count]
        labels = None if self.labels is None else self.labels[:count]
        return DataSet(x, self.levels, self.range, labels, self.name, self.allow_bad)

    def labelled(self, label: int) -> DataSet:
        """The rows with this label, in memory. DataError: data without labels, or no such row."""
        if self.labels is None:
            raise DataError(f"{self.name}: the data have no labels by which to choose rows")
        rows = np.flatnonzero(np.asarray(self.labels).reshape(len(self), -1)[:, 0] == label)
        if not len(rows):
            raise DataError(f"{self.name}: no row has the label {label}: give one that the data have")
        return self._subset(rows, f"label={label}")

    def _subset(self, rows: np.ndarray, part: str) -> DataSet:
        rows = np.sort(rows)
        labels = None if self.labels is None else self.labels[rows]
        x = np.asarray(self.x[rows])
        return DataSet(x, self.levels, self.range, labels, f"{self.name}:{part}", self.allow_bad)

    def _declared(self, what: str) -> tuple[int, float, float]:
        if self.levels is None or self.range is None:
            raise DataError(f"{self.name}: continuous data have no {what}: declare levels=, or use tensor()")
        return self.levels, *self.range

    def _rows(self, index: Rows) -> np.ndarray:
        every = range(self.first, self.first + len(self))
        rows = np.arange(every.start, every.stop) if index is None else np.atleast_1d(np.asarray(index))
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise DataError(f"{self.name}: index must be a list of integers, given {rows.dtype} {rows.shape}")
        if rows.size and not every.start <= rows.min() <= rows.max() < every.stop:
            span = f"{rows.min()}..{rows.max()}"
            raise DataError(f"{self.name}: index {span} leaves the rows {every.start}..{every.stop - 1}")
        return rows.astype(np.int64)

    def _bins(self, rows: np.ndarray) -> np.ndarray:
        levels, low, high = self._declared("level numbers")
        return np.rint((np.asarray(self.x[rows - self.first], np.float64) - low) / (high - low) * (levels - 1))

    def _mapped(self, index: Rows, target: Range, dtype: torch.dtype, seed: int | None) -> Tensor:
        rows, (low, high) = self._rows(index), interval(target, "range")
        out = torch.empty((len(rows), *self.shape), dtype=dtype)
        for part in pieces(len(rows), self.dims):
            values = self._unit(rows[part], seed)
            if self.range is not None:
                values = low + (high - low) * values
            out[part] = torch.from_numpy(values)
        return out

    def _unit(self, rows: np.ndarray, seed: int | None) -> np.ndarray:
        """The samples on [0, 1], or as they are stored when no range was declared."""
        if self.levels is not None:
            within = 0.5 if seed is None else uniforms(seed, rows, _DEQUANTISE, self.shape)
            return (self._bins(rows) + within) / self.levels
        values = np.asarray(self.x[rows - self.first], np.float64)
        return values if self.range is None else (values - self.range[0]) / (self.range[1] - self.range[0])
