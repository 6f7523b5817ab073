"""npy and npz files: their headers, and which array of an archive is meant."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from sdediff._utils.errors import DataWarning
from sdediff._utils.suggestions import hint
from sdediff.datasets.errors import DataError
from sdediff.datasets.locations import Location
from sdediff.datasets.number_files import Numbers, Order, check_packed, expect_size, mapped, streamed
from sdediff.datasets.stored_rows import BLOCK, IN_MEMORY


def npy(location: Location, limit: int | None) -> Any:
    """The array of an .npy file, mapped where the file is on this machine."""
    with location.open() as stream:
        shape, order, dtype = _header(stream, str(location))
        start = stream.tell()
    expect_size(location, start + math.prod(shape) * dtype.itemsize, location.size, shape)
    if location.local is not None:
        return mapped(location.local, dtype, start, shape, order)[:limit]
    return streamed(Numbers(location, shape, dtype, start), order, limit)


def npz(location: Location, key: str | None, limit: int | None) -> Any:
    """An array of an archive: mapped where it is large and stored plainly, else read as a stream."""
    with location.open() as file, zipfile.ZipFile(file) as archive:
        key = _chosen(archive, location, key, said=True)
        member = archive.getinfo(f"{key}.npy")
        with archive.open(member) as stream:
            shape, order, dtype = _header(stream, str(location))
            start = stream.tell()
        expect_size(location, start + math.prod(shape) * dtype.itemsize, member.file_size, shape)
        need = math.prod(shape) * dtype.itemsize
        plain = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        if plain and location.local is not None and need > IN_MEMORY:
            if limit is None or limit >= shape[0]:
                _verify(archive, member)
            file.seek(member.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")  # of the name and of the extra field, in the local header
            start += member.header_offset + 30 + int(lengths.sum())
            return mapped(location.local, dtype, start, shape, order)[:limit]
    if not plain:
        check_packed(location, shape, dtype, member.compress_size, limit)
    return streamed(Numbers(location, shape, dtype, start, f"{key}.npy"), order, limit)


def npz_rows(location: Location, key: str | None) -> int:
    """The number of rows of the array that `npz` would read."""
    with location.open() as file, zipfile.ZipFile(file) as archive:
        key = _chosen(archive, location, key, said=False)
        with archive.open(f"{key}.npy") as stream:
            shape = _header(stream, str(location))[0]
    return shape[0]


def _chosen(archive: zipfile.ZipFile, location: Location, key: str | None, said: bool) -> str:
    """The array that is meant: the one named, or the only one with two axes or more."""
    names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    if not names:
        raise DataError(f"{location}: no array in this archive: write one by numpy.savez")
    if key is not None and key not in names:
        raise DataError(f"{location}: no array {key!r}{hint(key, names)} (it has {', '.join(names)})")
    if key is not None or len(names) == 1:
        return names[0] if key is None else key
    wide = [name for name in names if _axes(archive, name) != 1]
    if len(wide) != 1:
        one = (wide or names)[0]
        raise DataError(
            f"{location}: several arrays ({', '.join(names)}): name one, as key={one!r} or {location.name}:{one}"
        )
    if said:
        rest = ", ".join(name for name in names if name not in wide)
        message = f"{location}: {wide[0]} is read and {rest} left aside; name one by key= to read that"
        warnings.warn(message, DataWarning, stacklevel=2)
    return wide[0]


def _axes(archive: zipfile.ZipFile, name: str) -> int:
    """1 for arrays of at most one axis and for what is no array of numbers, else 2."""
    with archive.open(f"{name}.npy") as stream:
        shape, _, dtype = _parsed(stream, name)
    return 2 if len(shape) > 1 and dtype.kind in "iuf" else 1


def _verify(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member to its end, where its checksum is compared."""
    with archive.open(member) as stream:
        while stream.read(BLOCK):
            pass


def _header(stream: Any, name: str) -> tuple[tuple[int, ...], Order, np.dtype]:
    """Shape, order and type of the npy array in a stream, which is left at its first value."""
    shape, order, dtype = _parsed(stream, name)
    if dtype.kind not in "iuf":
        raise DataError(f"{name}: values of type {dtype}: give integers or real numbers")
    if not shape:
        raise DataError(f"{name}: shape (): give (N, ...), such as x[:, None] for one value a sample")
    if min(shape) < 0:
        raise DataError(f"{name}: shape {shape} in its header: fetch or write it again")
    return shape, order, dtype


def _parsed(stream: Any, name: str) -> tuple[tuple[int, ...], Order, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: npy version {version}: give plain numbers, saved by numpy.save")
    old = version == (1, 0)
    parse: Callable[..., Any] = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = parse(stream)
    return shape, "F" if fortran and len(shape) > 1 else "C", dtype
