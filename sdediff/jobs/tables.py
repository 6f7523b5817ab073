"""Tables of a job as Parquet: bytes of shards, and results whose bytes depend on the values alone."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdediff._utils.files import whole
from sdediff.jobs.errors import JobError

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of a row group: fixed, so that the bytes of a result do not depend on the size of the shards.
_GROUP = 1 << 16
# The most rows of a result that is one file; above, it is a folder of files of so many rows.
WHOLE, _FILE = 10**8, 1 << 24


def described_schema(sections: dict[str, Any]) -> pa.Schema:
    """The schema of a work that states its columns in its settings, with all that defines the job as metadata."""
    import pyarrow as pa

    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in sections["settings"]["columns"].items()]
    about = {key: sections[key] for key in ("data", "model", "settings")}
    return pa.schema(fields, metadata={"sdediff": json.dumps(about, sort_keys=True)})


def make_table(columns: dict[str, list[Any]], schema: pa.Schema) -> pa.Table:
    """Columns of values as a table; NaN becomes null."""
    import pyarrow as pa

    arrays = {name: [_none_if_nan(value) for value in columns[name]] for name in schema.names}
    return pa.table(arrays, schema=schema)


def table_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(table.combine_chunks(), sink)
    return bytes(sink.getvalue())


def table_from(content: bytes, units: range) -> pa.Table:
    """The table in the bytes of a shard, whose index must be `units`. JobError: anything else."""
    import pyarrow as pa
    from pyarrow import ArrowException, parquet

    try:
        # In this thread: pools of threads cannot be relied on in the processes of workers and after signals.
        table = parquet.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        index = table.column("index").to_numpy()
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise JobError(f"no table of {len(units)} rows ({_line(error)})") from error
    if len(index) != len(units) or not np.array_equal(index, np.arange(units.start, units.stop)):
        raise JobError(f"its rows are not {units.start} to {units.stop - 1}")
    return table


def write_parquet(tables: Iterator[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables one after the other into one file, in row groups of a fixed size, with checksums of their pages."""
    _write(_groups(tables), schema, path)


def write_result(tables: Iterator[pa.Table], schema: pa.Schema, path: Path, rows: int) -> None:
    """Write tables as one file, or as a folder of files of a fixed size where they have more than WHOLE rows."""
    if rows <= WHOLE:
        write_parquet(tables, schema, path)
        return
    path.mkdir()
    groups = _groups(tables)
    for number, first in enumerate(groups):
        with whole(path / f"{number:05d}.parquet") as unfinished:
            _write(itertools.chain([first], itertools.islice(groups, _FILE // _GROUP - 1)), schema, unfinished)


def _write(groups: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_GROUP)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables, cut into row groups."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= _GROUP:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, _GROUP).combine_chunks()
            waiting, rows = [joined.slice(_GROUP)], rows - _GROUP
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def files_of(path: Path) -> list[Path]:
    """The files of a result in their order: itself, or those of its folder."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def read_rows(path: Path, units: range) -> pa.Table:
    """Rows of a result; pages whose checksum is wrong raise."""
    import pyarrow as pa
    from pyarrow import parquet

    groups = range(units.start // _GROUP, math.ceil(units.stop / _GROUP))
    size, tables = _FILE // _GROUP if path.is_dir() else groups.stop, []
    for number in range(groups.start // size, math.ceil(groups.stop / size)):
        name = path / f"{number:05d}.parquet" if path.is_dir() else path
        with parquet.ParquetFile(name, page_checksum_verification=True) as file:
            inside = range(max(groups.start, number * size), min(groups.stop, (number + 1) * size))
            tables += [file.read_row_group(group - number * size, use_threads=False) for group in inside]
    first = units.start - groups.start * _GROUP
    return pa.concat_tables(tables).slice(first, len(units)).combine_chunks()


def row_groups(path: Path, names: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The columns of a result, a row group at a time: float arrays, NaN where a value is missing, texts as lists."""
    from pyarrow import parquet

    for name in files_of(path):
        with parquet.ParquetFile(name, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield _columns(file.read_row_group(group, names, use_threads=False))


def read_columns(path: Path, every: int = 1) -> dict[str, Any]:
    """All columns of a result, as `row_groups` gives them; of every so many rows where there are too many."""
    columns: dict[str, list[Any]] = {}
    for group in row_groups(path):
        kept = np.flatnonzero(group["index"] % every == 0)
        for name, values in group.items():
            part = values[kept] if isinstance(values, np.ndarray) else [values[row] for row in kept]
            columns.setdefault(name, []).append(part)
    joined: dict[str, Any] = {}
    for name, parts in columns.items():
        texts = isinstance(parts[0], list)
        joined[name] = list(itertools.chain(*parts)) if texts else np.concatenate(parts)
    return joined


def _columns(table: pa.Table) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        texts = str(column.type) in ("string", "large_string")
        columns[name] = column.to_pylist() if texts else np.array(column.to_numpy(), np.float64)
    return columns


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
