"""IDX files, plain or gzipped: big-endian numbers of one type behind their sizes."""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import numpy as np

from sdediff.datasets.errors import DataError
from sdediff.datasets.locations import Location
from sdediff.datasets.number_files import (
    Numbers,
    another_size,
    check_packed,
    expect_size,
    mapped,
    opened,
    streamed,
)

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
# More than deflate can pack: 258 bytes in two bits are 1032 to one.
_DEFLATE = 1040


def idx(location: Location, limit: int | None) -> Any:
    """The array of an IDX file, mapped where it is on this machine and not gzipped."""
    packed = location.ending == ".gz"
    with opened(location, "gzip" if packed else "") as stream:
        shape, dtype, start = _idx_header(stream, location)
    need = math.prod(shape) * dtype.itemsize
    if packed:
        if need > _DEFLATE * location.size:
            raise another_size(str(location), need, _DEFLATE * location.size, shape)
        check_packed(location, shape, dtype, location.size, limit)
        return streamed(Numbers(location, shape, dtype, start, "gzip"), "C", limit)
    expect_size(location, start + need, location.size, shape)
    if location.local is not None:
        return mapped(location.local, dtype, start, shape)[:limit]
    return streamed(Numbers(location, shape, dtype, start), "C", limit)


def _idx_header(stream: BinaryIO, location: Location) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and the place of the first value."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] == 0:
        raise DataError(
            f"{location}: not an IDX file: it begins {magic.hex(' ')}, IDX begins 00 00, "
            "a type (08 for bytes) and the number of axes: give an IDX file or rename this one"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{location}: truncated within its header: fetch or write it again")
    return tuple(int(n) for n in np.frombuffer(sizes, ">u4")), np.dtype(_TYPES[magic[2]]), 4 + len(sizes)
