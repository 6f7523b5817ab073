"""Numbers of one type, one after another in a file, a gzip stream or a member of an archive: mapped or streamed."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sdediff.datasets.errors import DataError
from sdediff.datasets.locations import Location
from sdediff.datasets.stored_rows import BLOCK, IN_MEMORY, Source, bounded, loaded

Order = Literal["C", "F"]


@dataclass(frozen=True)
class Numbers(Source):
    """Numbers of one type from byte `offset` on: of the file itself, of a gzip stream, or of a member of an archive."""

    location: Location
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    packing: str = ""  # "gzip", or the name of a member

    @property
    def name(self) -> str:  # type: ignore[override]
        """The file."""
        return str(self.location)

    @property
    def forward(self) -> bool:  # type: ignore[override]
        """Whether later bytes need the earlier ones."""
        return bool(self.packing)

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Rows from `start` on; the end of the file is checked before the last block is given."""
        with opened(self.location, self.packing) as stream:
            stream.seek(self.offset + start * self.row_bytes)
            for first in range(start, self.shape[0], self.block_rows):
                rows = min(self.block_rows, self.shape[0] - first)
                values = _exactly(stream, rows * self.row_bytes)
                if len(values) < rows * self.row_bytes:
                    need, given = math.prod(self.shape) * self.dtype.itemsize, first * self.row_bytes + len(values)
                    raise another_size(self.name, need, given, self.shape)
                if self.packing and first + rows == self.shape[0] and stream.read(1):
                    need = math.prod(self.shape) * self.dtype.itemsize
                    raise another_size(self.name, need, need + 1, self.shape)
                yield np.frombuffer(values, self.dtype).reshape(rows, *self.shape[1:])


@contextmanager
def opened(location: Location, packing: str) -> Iterator[Any]:
    """The bytes of a file, unpacked."""
    with location.open() as file:
        if packing == "gzip":
            with gzip.open(file) as stream:
                yield stream
        elif packing:
            with zipfile.ZipFile(file) as archive, archive.open(packing) as stream:
                yield stream
        else:
            yield file


def mapped(path: Path, dtype: np.dtype, start: int, shape: tuple[int, ...], order: Order = "C") -> np.ndarray:
    """Numbers of a file from byte `start` on, mapped."""
    # An empty array cannot be mapped; DataSet says what is wrong with it.
    return np.memmap(path, dtype, "r", start, shape, order) if math.prod(shape) else np.empty(shape, dtype)


def streamed(source: Numbers, order: Order, limit: int | None) -> Any:
    """The first `limit` rows, in memory where they are small; Fortran order only as far as memory allows."""
    if not math.prod(source.shape):
        return np.empty(source.shape, source.dtype)
    bounded(source.name, 0, 0, source.row_bytes)
    if order == "C":
        return loaded(source, limit)
    # Columns are stored one after another, so no row is there before the last column is.
    whole = Numbers(source.location, source.shape[::-1], source.dtype, source.offset, source.packing)
    if math.prod(source.shape) * source.dtype.itemsize > 4 * IN_MEMORY:
        raise DataError(f"{source.name}: packed in Fortran order: write numpy.ascontiguousarray of it, or an .npy")
    return np.ascontiguousarray(np.concatenate(list(whole.blocks(0))).T[:limit])


def check_packed(location: Location, shape: Sequence[int], dtype: np.dtype, stored: int, limit: int | None) -> None:
    """Refuse packed numbers that unpack to far more than the bytes that are stored."""
    row, rows = math.prod(shape[1:]) * dtype.itemsize, shape[0] if limit is None else min(limit, shape[0])
    bounded(str(location), rows * row, stored, row)


def expect_size(location: Location, need: int, given: int, shape: Sequence[int]) -> None:
    """Refuse a file that is shorter or longer than its own header says."""
    if need != given:
        raise another_size(str(location), need, given, shape)


def another_size(name: str, need: int, given: int, shape: Sequence[int]) -> DataError:
    """The error for a file of another size than its header says."""
    fault = "truncated" if given < need else "too long"
    sizes = f"by its header, shape {tuple(shape)}, it has {need} bytes, given {given}"
    return DataError(f"{name}: {fault}: {sizes}: fetch or write it again")


def _exactly(stream: Any, size: int) -> bytearray:
    """`size` bytes, or those that there are; memory grows with what is there, whatever a damaged header claims."""
    values = bytearray()
    while piece := stream.read(min(BLOCK, size - len(values))):
        values += piece
    return values
