"""Rows of a file that are read when they are asked for, and the bounds of what is unpacked from one.

What is small is read into memory, plain numbers of a local file are mapped, and everything else is a `StoredRows`: its
source yields blocks of rows one after another, so that memory is bounded whatever the size of the file.
"""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from sdediff.datasets.errors import DataError, reading

# Bytes: of sets that are held in memory, of a block, of the largest row, and of what may always be unpacked.
IN_MEMORY, BLOCK, _LARGEST_ROW, _FREE = 1 << 26, 1 << 20, 1 << 30, 1 << 28
# How many times its own size a file may unpack to, beyond _FREE.
_MOST_TIMES = 200


class Source(ABC):
    """Rows (N, *shape) of one type that are read from the first to the last."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    # Whether a later row is reached by reading on, as in a compressed stream; else the source is opened there.
    forward = False

    @abstractmethod
    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Rows from `start` on in blocks of about BLOCK bytes; DataError where the file ends early."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return max(1, BLOCK // max(1, self.row_bytes))


def bounded(name: str, need: int, stored: int, row: int) -> None:
    """Refuse what unpacks to far more than is stored, and rows that no memory should have to hold.

    need: bytes of the rows that will be read; stored: bytes of the file that hold them; row: bytes of one row.
    """
    if row > _LARGEST_ROW:
        raise DataError(f"{name}: a row has {row:,} bytes, at most 2^30 are read: give smaller samples")
    if need > _FREE and need > _MOST_TIMES * max(1, stored):
        raise DataError(
            f"{name}: {stored:,} bytes unpack to {need:,}, as a damaged or hostile file's do: if they are meant, "
            "unpack them into an .npy, or read the first rows alone by limit= (--limit)"
        )


def loaded(source: Source, limit: int | None) -> Any:
    """The first `limit` rows: an array where they are small, else a StoredRows.

    All rows of a compressed file are read through once, which finds a truncated or damaged one.
    """
    count = source.shape[0] if limit is None else min(limit, source.shape[0])
    rows = StoredRows(source, count)
    if rows.nbytes <= IN_MEMORY:
        return rows[:]
    if count == source.shape[0] and source.forward:
        with reading(source.name):
            for _ in source.blocks(0):
                pass
    return rows


class StoredRows:
    """Rows (N, *shape) in a file: x[i:j] and x[[7, 3]] read just those, in any order, as arrays.

    Reading on from the last row read costs no more than its bytes. It may be pickled and used after a fork; threads
    take turns. `head` and `reshaped` give views. np.asarray(x) reads everything.
    """

    def __init__(self, source: Source, count: int | None = None, shape: tuple[int, ...] | None = None) -> None:
        self.source = source
        self.shape = (source.shape[0] if count is None else count, *(source.shape[1:] if shape is None else shape))
        self.dtype, self.ndim = source.dtype, len(self.shape)
        self._lock = threading.Lock()
        self._blocks: Iterator[np.ndarray] | None = None  # open at row _at, in the process _owner
        self._rest: np.ndarray | None = None
        self._at, self._owner = 0, os.getpid()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in memory."""
        return self.size * self.dtype.itemsize

    def head(self, count: int) -> StoredRows:
        """The first rows."""
        return StoredRows(self.source, min(count, len(self)), self.shape[1:])

    def reshaped(self, shape: tuple[int, ...]) -> StoredRows:
        """The same values with rows of another shape."""
        return StoredRows(self.source, len(self), shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, tuple):
            return self[key[0]][(slice(None), *key[1:])]
        if isinstance(key, slice):
            span = range(*key.indices(len(self)))
            return self._span(span.start, max(span.start, span.stop)) if span.step == 1 else self._rows(np.array(span))
        rows = np.asarray(key)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        if rows.size and (rows.dtype.kind not in "iu" or not -len(self) <= rows.min() <= rows.max() < len(self)):
            raise IndexError(f"rows {key!r} of {len(self)}")
        rows = np.where(rows < 0, rows + len(self), rows).astype(np.int64)
        return self._rows(rows) if rows.ndim else self._span(int(rows), int(rows) + 1)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (row for start in range(0, len(self), 64) for row in self[start : start + 64])

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows in any order: read from the first to the last, each run of neighbours at once."""
        each, place = np.unique(rows, return_inverse=True)
        if not each.size:
            return self._span(0, 0)
        runs = np.split(each, np.flatnonzero(np.diff(each) != 1) + 1)
        found = np.concatenate([self._span(int(run[0]), int(run[-1]) + 1) for run in runs])
        return found[place.reshape(rows.shape)]

    def _span(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.source.shape[1:]), self.dtype)
        with self._lock, reading(self.source.name):
            try:
                self._seek(start)
                filled = 0
                while filled < len(out):
                    part = self._next(len(out) - filled)
                    out[filled : filled + len(part)] = part
                    filled += len(part)
            except BaseException:
                self._blocks, self._rest = None, None
                raise
        return out.reshape(stop - start, *self.shape[1:])

    def _seek(self, start: int) -> None:
        """Have the next row be `start`: the file position is shared after a fork, so another process opens its own."""
        here = self._blocks is not None and self._owner == os.getpid()
        if here and self._at == start:
            return
        if here and self.source.forward and self._at < start:
            while self._at < start:
                self._next(start - self._at)
            return
        self._blocks, self._rest = self.source.blocks(start), None
        self._at, self._owner = start, os.getpid()

    def _next(self, most: int) -> np.ndarray:
        """Up to `most` rows from where the last ones ended."""
        block = self._rest
        if block is None or not len(block):
            block = next(self._blocks, None) if self._blocks is not None else None
            if block is None:
                raise DataError(f"{self.source.name}: truncated: it ends at row {self._at} of {self.source.shape[0]}")
        part, self._rest = block[:most], block[most:]
        self._at += len(part)
        return part

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "count": len(self), "shape": self.shape[1:]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
