"""From files to data sets. A reader checks its file's header against the file's size before it allocates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from sdediff.datasets.checks import Range
from sdediff.datasets.errors import DataError, reading
from sdediff.datasets.idx_files import idx
from sdediff.datasets.image_folder import image_folder
from sdediff.datasets.locations import Location
from sdediff.datasets.numpy_files import npy, npz, npz_rows
from sdediff.datasets.parquet_files import parquet, parquet_rows
from sdediff.datasets.sets import DataSet
from sdediff.datasets.stored_rows import StoredRows

_IDX_NAME = re.compile(r"idx\d?(-[a-z]+)?$")
_WITH_KEY = re.compile(r"^(.+\.(?:npz|parquet)):([^/\\]+)$", re.IGNORECASE)
_KEYED = (".npz", ".parquet")


def read(
    path: str | Path,
    levels: int | None = None,
    range: Range | None = None,
    key: str | None = None,
    limit: int | None = None,
    labels: Any = None,
    allow_bad: bool = False,
) -> DataSet:
    """The data set in a file (.npy, .npz, IDX, IDX.gz, .parquet) or a folder of PNG or JPEG, by its path or URL.

    Plain numbers are mapped, packed ones of more than 64 MiB stay in the file as a `StoredRows`. Values (N,) become
    (N, 1), images with integer levels (N, H, W) (N, 1, H, W); other shapes stay. uint8 values have 256 levels over
    (0, 255) unless levels= or range= say otherwise. key: the array of an .npz, or Parquet columns "a,b", also written
    "file.npz:key"; without it only what leaves no doubt is read, and a DataWarning says what is left aside. limit: the
    first rows alone. labels: (N, ...), or what `column` takes. allow_bad: as in DataSet. Raises DataError: not found,
    unknown ending, wrong magic, truncated, empty, unpacking to far more than is stored, and what DataSet refuses.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: give the number of rows to read, at least 1")
    location, key = located(path, key)
    x, levels, range = as_samples(_rows(location, key, limit), levels, range)
    if isinstance(labels, str):
        labels = column(path, labels, limit)
    labels = labels if labels is None or limit is None else labels[:limit]
    return DataSet(x, levels, range, labels, str(location), allow_bad)


def column(data: str | Path | DataSet, given: str | Path, limit: int | None = None) -> np.ndarray:
    """Values (N, ...) with a row for each row of `data`, such as labels or conditions, in their stored type.

    given: the name of an array or column in the data's own file, or another file, also "file.parquet:column", whose
    number of rows is that of data; a name with "/" or an ending of a format is a file. limit: the first rows alone. A
    scalar column has the shape (N,).
    Raises DataError: as `read`, and for another number of rows.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: give the number of rows to read, at least 1")
    text = str(given)
    location, key = located(data.name if isinstance(data, DataSet) else data)
    if _names_file(text):
        location, key = located(text)
    elif location.ending in _KEYED:
        key = text
    else:
        raise DataError(f"{location} has no column {text!r}: give a file with a row for each row of the data")
    values = np.asarray(_rows(location, key, limit))
    rows = len(data) if isinstance(data, DataSet) else _count(*located(data), limit)
    rows = rows if limit is None else min(rows, limit)
    if len(values) != rows:
        raise DataError(f"{location}: {len(values)} rows for the {rows} of the data: give one for each")
    single = location.ending == ".parquet" and values.ndim == 2 and values.shape[1] == 1
    return values[:, 0] if single else values


def as_samples(x: Any, levels: int | None, range: Range | None) -> tuple[Any, int | None, Range | None]:
    """The one rule of files and arrays for values (N, ...) without a channel axis, and for levels of bytes."""
    if x.dtype == np.uint8 and levels is None:
        range = range or (0, 255)
        levels = round(range[1] - range[0]) + 1
    return (with_channel(x) if x.ndim == 1 or (x.ndim == 3 and levels is not None) else x), levels, range


def with_channel(x: Any) -> Any:
    """Rows (N, ...) as (N, 1, ...)."""
    return x.reshaped((1, *x.shape[1:])) if isinstance(x, StoredRows) else x[:, None]


def without_channel(x: Any) -> Any:
    """Rows (N, 1, ...) as (N, ...)."""
    return x.reshaped(x.shape[2:]) if isinstance(x, StoredRows) else x[:, 0]


def located(path: str | Path, key: str | None = None) -> tuple[Location, str | None]:
    """The place of a path or URL, and the key of "file.npz:key"."""
    location, split = Location(str(path)), _WITH_KEY.match(str(path))
    if split is None or location.kind != "absent":
        return location, key
    if key is not None:
        raise DataError(f"{path}: key={key!r} beside {split[2]!r} in the path: give one of them")
    return Location(split[1]), split[2]


def _names_file(text: str) -> bool:
    """Whether a text is meant as a path or URL, not as the name of a column."""
    plain = Location(_WITH_KEY.sub(r"\1", text))
    return "/" in text or plain.ending in (".npy", ".gz", *_KEYED) or bool(_IDX_NAME.search(plain.name.lower()))


def _rows(location: Location, key: str | None, limit: int | None) -> Any:
    """The first rows of a file or folder."""
    name = str(location)
    with reading(name):
        kind = _format(location)
        if key is not None and kind not in _KEYED:
            raise DataError(f"{name}: key={key!r} is for .npz and .parquet: leave it out")
        if kind == ".npz":
            return npz(location, key, limit)
        if kind == ".parquet":
            return parquet(location, key, limit)
        return {".npy": npy, "idx": idx, "folder": image_folder}[kind](location, limit)


def _count(location: Location, key: str | None, limit: int | None) -> int:
    """The number of rows of a file, from its header where it has one."""
    with reading(str(location)):
        if location.kind == "file" and location.ending == ".parquet":
            return parquet_rows(location)
        if location.kind == "file" and location.ending == ".npz":
            return npz_rows(location, key)
    return len(_rows(location, key, limit))


def _format(location: Location) -> str:
    """The format by the name: "folder", "idx", or an ending."""
    if location.required().kind == "folder":
        return "folder"
    if location.size == 0:
        raise DataError(f"{location}: the file is empty (0 bytes): fetch or write it again")
    if location.ending == ".gz" or _IDX_NAME.search(location.name.lower()):
        return "idx"
    if location.ending not in (".npy", *_KEYED):
        raise DataError(
            f"{location}: unknown ending {location.ending!r}: give .npy, .npz, .parquet, .idx, an IDX name such as "
            "train-images-idx3-ubyte(.gz), or a folder of PNG or JPEG"
        )
    return location.ending
