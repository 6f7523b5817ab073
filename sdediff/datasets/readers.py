"""From files to data sets. A reader checks its file's header against the file's size before it allocates."""

from __future__ import annotations

import gzip
import math
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sdediff._utils.suggestions import hint
from sdediff.datasets.checks import DataError, Range, needed
from sdediff.datasets.sets import DataSet

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(
    path: str | Path,
    levels: int | None = None,
    range: Range | None = None,
    key: str | None = None,
    limit: int | None = None,
    labels: Any = None,
    allow_bad: bool = False,
) -> DataSet:
    """The data set in a file (.npy memory-mapped, .npz, IDX, IDX.gz, .parquet) or a folder of PNG or JPEG.

    Values (N,) become samples (N, 1), images with integer levels (N, H, W) become (N, 1, H, W); other
    shapes stay. uint8 values have 256 levels over (0, 255) unless levels= or range= say otherwise. key:
    the array of an .npz, or Parquet columns "a,b" (all numeric ones by default). limit: the first rows
    alone. labels: (N, ...), such as `read(other_file).x[:, 0]`. allow_bad: as in DataSet.
    Raises DataError, one sentence: not found, unknown ending, wrong magic, truncated, empty, and what
    DataSet refuses.
    """
    path = Path(path).expanduser()
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: give the number of rows to read, at least 1")
    x = _load(path, key, limit)[:limit]
    x, levels, range = as_samples(x, levels, range)
    labels = labels if labels is None or limit is None else labels[:limit]
    return DataSet(x, levels, range, labels, str(path), allow_bad)


def as_samples(x: np.ndarray, levels: int | None, range: Range | None) -> tuple[np.ndarray, int | None, Range | None]:
    """The one rule of files and arrays for values (N, ...) without a channel axis, and for levels of bytes."""
    if x.dtype == np.uint8 and levels is None:
        range = range or (0, 255)
        levels = round(range[1] - range[0]) + 1
    return (x[:, None] if x.ndim == 1 or (x.ndim == 3 and levels is not None) else x), levels, range


def _load(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    try:
        reader = _reader(path)
        if key is not None and reader not in (_npz, _parquet):
            raise DataError(f"{path}: key={key!r} is for .npz and .parquet: leave it out")
        return reader(path, key, limit)
    except (DataError, ImportError):
        raise
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read it: give yourself the right") from error
    # On a damaged file numpy, gzip, zipfile and pyarrow raise an open set of types, tokenizer errors among them.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: damaged or of another format ({reason}): fetch or write it again") from error


def _reader(path: Path) -> Callable[[Path, str | None, int | None], np.ndarray]:
    if not path.exists():
        others = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file or folder{hint(path.name, others)}")
    if path.is_dir():
        return _folder
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes): fetch or write it again")
    ending = path.suffix.lower()
    if ending == ".gz" or re.search(r"idx\d?(-[a-z]+)?$", path.name.lower()):
        return _idx
    readers = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}
    if ending not in readers:
        raise DataError(
            f"{path}: unknown ending {ending!r}: give .npy, .npz, .parquet, .idx, an IDX name such as "
            "train-images-idx3-ubyte(.gz), or a folder of PNG or JPEG"
        )
    return readers[ending]


def _expect(path: Path, need: int, given: int, shape: Sequence[int]) -> None:
    """Refuses a file that is shorter or longer than its own header says."""
    if need != given:
        fault = "truncated" if given < need else "too long"
        sizes = f"by its header, shape {tuple(shape)}, it has {need} bytes, given {given}"
        raise DataError(f"{path}: {fault}: {sizes}: fetch or write it again")


def _header(stream: Any, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the npy array in a stream, which is left at its first value."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: npy version {version}: give plain numbers, saved by numpy.save")
    old = version == (1, 0)
    parse = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, _, dtype = parse(stream)
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: values of type {dtype}: give integers or real numbers")
    return shape, dtype


def _npy(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    with path.open("rb") as stream:
        shape, dtype = _header(stream, path)
        start = stream.tell()
    _expect(path, start + math.prod(shape) * dtype.itemsize, path.stat().st_size, shape)
    # An empty array cannot be mapped; DataSet says what is wrong with it.
    return np.load(path, mmap_mode="r", allow_pickle=False) if math.prod(shape) else np.empty(shape, dtype)


def _npz(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        if not names:
            raise DataError(f"{path}: no array in this archive: write one by numpy.savez")
        if key is None and len(names) > 1:
            raise DataError(f"{path}: several arrays ({', '.join(names)}): name one, as key={names[0]!r}")
        if key is not None and key not in names:
            raise DataError(f"{path}: no array {key!r}{hint(key, names)} (it has {', '.join(names)})")
        member = archive.getinfo(f"{key or names[0]}.npy")
        with archive.open(member) as stream:
            shape, dtype = _header(stream, path)
            _expect(path, stream.tell() + math.prod(shape) * dtype.itemsize, member.file_size, shape)
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


def _idx(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path) if packed else path.open("rb") as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
            raise DataError(
                f"{path}: not an IDX file: it begins {magic.hex(' ')}, IDX begins 00 00, "
                "a type (08 for bytes) and the number of axes: give an IDX file or rename this one"
            )
        dtype, axes = np.dtype(_IDX_TYPES[magic[2]]), magic[3]
        sizes = stream.read(4 * axes)
        if len(sizes) < 4 * axes:
            raise DataError(f"{path}: truncated within its header: fetch or write it again")
        shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
        start, need = 4 + 4 * axes, math.prod(shape) * dtype.itemsize
        if packed:
            values = _at_most(stream, need + 1)
            _expect(path, need, len(values), shape)
            return np.frombuffer(values, dtype).reshape(shape)
    _expect(path, start + need, path.stat().st_size, shape)
    return np.memmap(path, dtype, "r", start, shape) if need else np.empty(shape, dtype)


def _at_most(stream: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    """Up to `size` bytes; memory grows with what is there, whatever a damaged header claims."""
    values = bytearray()
    while piece := stream.read(min(1 << 20, size - len(values))):
        values += piece
    return values


def _parquet(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    types, parquet = needed("pyarrow.types", "pyarrow"), needed("pyarrow.parquet", "pyarrow")
    with parquet.ParquetFile(path) as table:
        schema = table.schema_arrow
        numeric = [c.name for c in schema if types.is_integer(c.type) or types.is_floating(c.type)]
        chosen = key.split(",") if key else numeric
        for name in chosen:
            if name not in numeric:
                raise DataError(f"{path}: no numeric column {name!r}{hint(name, numeric)}")
        if not chosen:
            raise DataError(f"{path}: no numeric column among {', '.join(schema.names)}: write numbers")
        values = table.read(columns=chosen)
    return np.stack([values.column(name).to_numpy() for name in chosen], axis=1)


def _folder(path: Path, key: str | None, limit: int | None) -> np.ndarray:
    endings = (".png", ".jpg", ".jpeg")
    names = sorted(n.name for n in path.iterdir() if n.name.lower().endswith(endings) and n.name[0] != ".")
    if not names:
        raise DataError(f"{path}: no PNG or JPEG image in this folder: give a folder that holds them")
    names = names[:limit]
    shape = _image(path / names[0]).shape
    images = np.empty((len(names), *shape), np.uint8)
    for i, name in enumerate(names):
        pixels = _image(path / name)
        if pixels.shape != shape:
            raise DataError(
                f"{path / name}: shape {pixels.shape}, the first image, {names[0]}, has {shape}: "
                "give all the same size and number of channels"
            )
        images[i] = pixels
    return images


def _image(path: Path) -> np.ndarray:
    """The bytes (C, H, W) of one greyscale or RGB image."""
    pillow = needed("PIL.Image", "pillow")
    try:
        with pillow.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
    except Exception as error:
        raise DataError(f"{path}: not a readable image ({error}): mend or remove it") from error
    if mode not in ("L", "RGB"):
        raise DataError(f"{path}: image mode {mode}: convert it to RGB or to greyscale (L)")
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
