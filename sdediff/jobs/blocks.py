"""Blocks of the rows of a data set: the unit in which input is copied, hashed and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from sdediff.datasets import DataSet
from sdediff.jobs.work import Taken

_BYTES = 1 << 23


def block_rows(row_bytes: int) -> int:
    """The number of rows of a block: a power of two, of eight MiB at most."""
    return 1 << max(0, (_BYTES // max(1, row_bytes)).bit_length() - 1)


def block_numbers(rows: range, size: int) -> range:
    """The blocks that hold these rows."""
    return range(rows.start // size, -(-rows.stop // size))


def identity(digests: Sequence[str], dtype: str, shape: Sequence[int], size: int) -> str:
    """The hash of a whole data set, from those of all its blocks."""
    return hashlib.sha256(" ".join([f"{dtype} {tuple(shape)} {size}", *digests]).encode()).hexdigest()


class Blocks:
    """Rows of a data set in blocks, each of which is read and hashed once."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.size = block_rows(data.dims * data.x.dtype.itemsize)
        self._digests: dict[tuple[int, int], str] = {}

    def numbers(self, rows: range) -> range:
        """The blocks that hold these rows."""
        return block_numbers(rows, self.size)

    def digests(self, rows: range, total: int) -> tuple[str, ...]:
        """The SHA-256 of the blocks that hold these rows, of the first `total` rows."""
        return tuple(self._digest(number, total) for number in self.numbers(rows))

    def _digest(self, number: int, total: int) -> str:
        bounds = (number * self.size, min((number + 1) * self.size, total))
        if bounds not in self._digests:
            self._digests[bounds] = _hash(self.data.x[slice(*bounds)])
        return self._digests[bounds]

    def take(self, rows: range) -> Taken:
        """A copy of these rows, and the hashes of the copied blocks that it was cut from."""
        numbers, digests = self.numbers(rows), []
        first, end = numbers.start * self.size, min(numbers.stop * self.size, len(self.data))
        copied = self.data.window(first, end)
        for number in numbers:
            start = number * self.size - first
            digests.append(_hash(copied.x[start : start + self.size]))
        return Taken(copied.window(rows.start, rows.stop), tuple(digests))

    def identity(self, digests: Sequence[str]) -> str:
        """The hash of the whole data set, from those of all its blocks."""
        return identity(digests, self.data.x.dtype.str, self.data.x.shape, self.size)


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()
