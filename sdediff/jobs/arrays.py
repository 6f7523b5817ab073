"""Arrays of any size in an .npz, written row by row: names, then rows, then the sums that the archive needs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

_ROWS, _TEXT = "x.npy", "settings.npy"


def write_rows(path: Path, parts: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype, settings: str) -> None:
    """Write `settings` (a text) and x of `shape`, whose rows come in parts, as np.load reads them.

    The bytes depend on the values alone, not on how the rows were cut.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(zipfile.ZipInfo(_TEXT), _npy(np.array(settings)))
        with archive.open(zipfile.ZipInfo(_ROWS), "w", force_zip64=True) as stream:
            stream.write(_header(shape, dtype))
            for part in parts:
                stream.write(np.ascontiguousarray(part, dtype).tobytes())


def read_rows(path: Path, start: int, stop: int) -> np.ndarray:
    """Rows start ... stop - 1 of x, reading no others."""
    with zipfile.ZipFile(path) as archive, archive.open(_ROWS) as stream:
        shape, dtype = _opened(stream)
        row = int(np.prod(shape[1:])) * dtype.itemsize
        stream.seek(stream.tell() + start * row)
        content = stream.read((stop - start) * row)
    return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])


def each_part(path: Path, rows: int, limit: int | None = None) -> Iterator[np.ndarray]:
    """The rows of x, some at a time."""
    with zipfile.ZipFile(path) as archive, archive.open(_ROWS) as stream:
        shape, dtype = _opened(stream)
        size, total = int(np.prod(shape[1:])) * dtype.itemsize, min(shape[0], limit or shape[0])
        for start in range(0, total, rows):
            count = min(rows, total - start)
            yield np.frombuffer(stream.read(count * size), dtype).reshape(count, *shape[1:])


def _opened(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    npy.read_magic(stream)
    shape, _, dtype = npy.read_array_header_1_0(stream)
    return shape, dtype


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def _npy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, value, allow_pickle=False)
    return buffer.getvalue()
