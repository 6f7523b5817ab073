"""Columns of a Parquet file: which ones are meant, and their rows, batch by batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from sdediff._utils.errors import DataWarning
from sdediff._utils.suggestions import hint
from sdediff.datasets.errors import DataError, needed
from sdediff.datasets.locations import Location
from sdediff.datasets.stored_rows import BLOCK, Source, bounded, loaded

# Names that columns of labels and row numbers have, which are no values of a sample.
_ASIDE = ("label", "labels", "y", "target", "targets", "class", "id", "index", "idx", "__index_level_0__")


@dataclass(frozen=True)
class Columns(Source):
    """Scalar columns (N, columns), or one column of lists or tensors of one shape (N, *shape)."""

    location: Location
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def name(self) -> str:  # type: ignore[override]
        """The file."""
        return str(self.location)

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Rows from `start` on: row groups before it are left out, those that hold it decoded in batches."""
        with self.location.open() as file, parquet_file(file) as table:
            groups = range(table.num_row_groups)
            ends = np.cumsum([table.metadata.row_group(i).num_rows for i in groups], dtype=np.int64)
            first = int(np.searchsorted(ends, start, side="right"))
            row = int(ends[first - 1]) if first else 0
            options = {"columns": list(self.columns), "row_groups": list(groups[first:]), "use_threads": False}
            for batch in table.iter_batches(self.block_rows, **options):
                if row + len(batch) > start:
                    skipped = max(0, start - row)
                    yield self._values(batch, row)[skipped:]
                row += len(batch)

    def _values(self, batch: Any, row: int) -> np.ndarray:
        columns = [batch.column(batch.schema.get_field_index(name)) for name in self.columns]
        for name, column in zip(self.columns, columns, strict=True):
            if column.null_count and (self.dtype.kind != "f" or _list_shape(column.type) is not None):
                null = row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
                raise DataError(f"{self.name}: row {null} of column {name!r} is null: fill it in, or leave the row out")
        if len(columns) == 1 and _list_shape(columns[0].type) is not None:
            return self._lists(columns[0], row)
        values = [column.to_numpy(zero_copy_only=False) for column in columns]
        return np.stack(values, axis=1).astype(self.dtype, copy=False)

    def _lists(self, column: Any, row: int) -> np.ndarray:
        """The values of a column of lists or tensors."""
        types = needed("pyarrow.types", "pyarrow")
        if not types.is_list(column.type) and hasattr(column, "to_numpy_ndarray"):
            return column.to_numpy_ndarray().reshape(len(column), *self.shape[1:])
        shape, rows = self.shape[1:], len(column)
        for size in shape:
            if not types.is_fixed_size_list(column.type):
                lengths = np.asarray(column.value_lengths())
                if len(lengths) and (lengths != size).any():
                    odd = int(np.argmax(lengths != size)) // max(1, len(lengths) // max(1, rows))
                    raise DataError(
                        f"{self.name}: row {row + odd} of column {self.columns[0]!r} has another length than row 0, "
                        f"whose shape is {shape}: give all the same shape"
                    )
            column = column.flatten()
        if len(column) != rows * math.prod(shape) or (column.null_count and self.dtype.kind != "f"):
            raise DataError(f"{self.name}: nulls within column {self.columns[0]!r} at row {row} or after: fill them in")
        values = column.to_numpy(zero_copy_only=False).reshape(rows, *shape)
        return values.astype(self.dtype, copy=False)


def parquet_file(file: Any) -> Any:
    """An open Parquet file that reads no more ahead than it must."""
    return needed("pyarrow.parquet", "pyarrow").ParquetFile(file, buffer_size=BLOCK, pre_buffer=False)


def parquet(location: Location, key: str | None, limit: int | None) -> Any:
    """Columns of a Parquet file as one array of rows."""
    with location.open() as file, parquet_file(file) as table:
        schema, rows = table.schema_arrow, table.metadata.num_rows
        chosen = _named(schema, key, location) if key else _without_doubt(schema, location)
        shape, dtype = _shape_and_dtype(table, chosen, location)
        source = Columns(location, tuple(chosen), (rows, *shape), dtype)
        _check_size(table, source, limit)
    return loaded(source, limit) if rows and math.prod(shape) else np.empty(source.shape, dtype)


def parquet_rows(location: Location) -> int:
    """The number of rows of a file."""
    with location.open() as file, parquet_file(file) as table:
        return table.metadata.num_rows


def _named(schema: Any, key: str, location: Location) -> list[str]:
    """The columns that "a,b" or patterns such as "pixel*" name."""
    known = [c.name for c in schema if _is_number(c.type) or _list_shape(c.type) is not None]
    chosen: list[str] = []
    for part in key.split(","):
        matching = [part] if part in known else [name for name in known if fnmatchcase(name, part)]
        if not matching:
            raise DataError(f"{location}: no numeric column {part!r}{hint(part, known)}")
        chosen += [name for name in matching if name not in chosen]
    lists = [name for name in chosen if _list_shape(schema.field(name).type) is not None]
    if lists and len(chosen) > 1:
        raise DataError(f"{location}: column {lists[0]!r} holds lists: name it alone, as key={lists[0]!r}")
    return _once(schema, chosen, location)


def _once(schema: Any, chosen: list[str], location: Location) -> list[str]:
    """The columns; DataError where several have one name."""
    for name in chosen:
        if schema.names.count(name) > 1:
            raise DataError(f"{location}: {schema.names.count(name)} columns have the name {name!r}: rename them")
    return chosen


def _without_doubt(schema: Any, location: Location) -> list[str]:
    """The columns taken when none is named: the only one of lists, or all where all are real numbers."""
    lists = [c.name for c in schema if _list_shape(c.type) is not None]
    numeric = [c.name for c in schema if _is_number(c.type)]
    types = needed("pyarrow.types", "pyarrow")
    if not lists and not numeric:
        raise DataError(f"{location}: no numeric column among {', '.join(schema.names)}: write numbers")
    if len(lists) == 1:
        rest = [name for name in schema.names if name not in lists]
        if rest:
            message = f"{location}: column {lists[0]} is read and {_listed(rest)} left aside; name columns by key="
            warnings.warn(message, DataWarning, stacklevel=2)
        return _once(schema, lists, location)
    plain = all(types.is_floating(c.type) and c.name.lower() not in _ASIDE for c in schema)
    if not lists and (plain or len(schema.names) == 1):
        return _once(schema, numeric, location)
    such = lists[0] if lists else ",".join(numeric[:2])
    raise DataError(
        f"{location}: columns {_listed(schema.names)}: name those of a sample, such as key={such!r} "
        f"({location.name}:{such}) or a pattern such as 'pixel*'"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _shape_and_dtype(table: Any, chosen: list[str], location: Location) -> tuple[tuple[int, ...], np.dtype]:
    """The shape of a row and the type of all values; of lists of any length that of the first."""
    kinds = [table.schema_arrow.field(name).type for name in chosen]
    shape = _list_shape(kinds[0])
    if shape is None:
        return (len(chosen),), np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in kinds))
    dtype = np.dtype(_leaf(kinds[0]).to_pandas_dtype())
    if None not in shape:
        return shape, dtype
    first = next(table.iter_batches(1, columns=chosen, use_threads=False), None)
    value = None if first is None or not len(first) else first.column(0)[0].as_py()
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    if table.metadata.num_rows and len(sizes) != len(shape):
        raise DataError(f"{location}: row 0 of column {chosen[0]!r} holds null or an empty list: give numbers")
    return tuple(sizes) or tuple(size or 0 for size in shape), dtype


def _check_size(table: Any, source: Columns, limit: int | None) -> None:
    """Refuse rows, and columns of the row groups that hold them, that unpack to far more than is stored."""
    rows = source.shape[0] if limit is None else min(limit, source.shape[0])
    stored, seen, wanted = 0, 0, {*source.columns}
    for i in range(table.num_row_groups):
        group = table.metadata.row_group(i)
        for j in range(group.num_columns):
            part = group.column(j)
            if part.path_in_schema.split(".")[0] in wanted or part.path_in_schema in wanted:
                bounded(source.name, part.total_uncompressed_size, part.total_compressed_size, 0)
                stored += part.total_compressed_size
        seen += group.num_rows
        if seen >= rows:
            break
    bounded(source.name, rows * source.row_bytes, stored, source.row_bytes)


def _is_number(kind: Any) -> bool:
    types = needed("pyarrow.types", "pyarrow")
    return types.is_integer(kind) or types.is_floating(kind)


def _list_shape(kind: Any) -> tuple[Any, ...] | None:
    """The shape of a list or tensor type of numbers, None a size that the type leaves open; None for other types."""
    types = needed("pyarrow.types", "pyarrow")
    if getattr(kind, "extension_name", "") == "arrow.fixed_shape_tensor":
        return tuple(kind.shape) if _is_number(kind.value_type) else None
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        inner = () if _is_number(kind.value_type) else _list_shape(kind.value_type)
        size = kind.list_size if types.is_fixed_size_list(kind) else None
        return None if inner is None else (size, *inner)
    return None


def _leaf(kind: Any) -> Any:
    return kind if _is_number(kind) else _leaf(kind.value_type)
