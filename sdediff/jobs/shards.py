"""Shards of results: Parquet files that are written completely or not at all, merged into one file at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdediff._utils.files import whole

MERGED = "likelihood.parquet"
_KEY = b"sdediff"


def _schema(columns: Sequence[str]) -> Any:
    import pyarrow as pa

    kinds = {"index": pa.int64(), "status": pa.string(), "calls": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])


class Shards:
    """The shards of a job of `size` rows, `step` rows each: NUMBER.parquet in a folder.

    job: the job's id, stored in every shard with the facts of its rows, so that shards of another job are refused.
    """

    def __init__(self, folder: Path, size: int, step: int, job: str) -> None:
        self.folder, self.size, self.step, self._job = folder, size, step, job
        self.count = math.ceil(size / step)

    def rows(self, number: int) -> range:
        """The rows of one shard."""
        return range(number * self.step, min((number + 1) * self.step, self.size))

    def path(self, number: int) -> Path:
        """The file of one shard."""
        return self.folder / f"{number:06d}.parquet"

    def done(self) -> int:
        """The number of finished shards."""
        return sum(self.path(number).exists() for number in range(self.count))

    def write(self, number: int, columns: dict[str, list[Any]], facts: dict[str, Any]) -> None:
        """Write a finished shard."""
        import pyarrow as pa
        from pyarrow import parquet

        arrays = {name: [_none_if_nan(v) for v in values] for name, values in columns.items()}
        metadata = {_KEY: json.dumps({**facts, "job": self._job})}
        table = pa.table(arrays, schema=_schema(list(columns)).with_metadata(metadata))
        with whole(self.path(number)) as unfinished:
            parquet.write_table(table, unfinished)

    def discard_damaged(self, say: Callable[[str], None]) -> None:
        """Remove files that are incomplete, or that are shards of another job."""
        from pyarrow import ArrowException, parquet

        for number in range(self.count):
            if not self.path(number).exists():
                continue
            try:
                with parquet.ParquetFile(self.path(number)) as file:
                    facts = json.loads(file.schema_arrow.metadata[_KEY])
                    good = facts["job"] == self._job and file.metadata.num_rows == len(self.rows(number))
            except (ArrowException, OSError, ValueError, KeyError, TypeError):
                good = False
            if not good:
                say(f"{self.path(number)} is damaged or of another job: it is computed again")
                self.path(number).unlink(missing_ok=True)

    def merge(self, out: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Write all shards to one file, a row group each, and return the facts of each.

        The file depends on the values alone: the time of the work is stored in the shards.
        """
        from pyarrow import parquet

        facts, schema = [], _schema(columns)
        with whole(out) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
            for number in range(self.count):
                table = parquet.read_table(self.path(number), partitioning=None)
                facts.append(json.loads(table.schema.metadata[_KEY]))
                writer.write_table(table.replace_schema_metadata(None))
        return facts


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def read_results(out: Path) -> dict[str, Any]:
    """The columns of a finished job: float arrays, NaN where a value is missing, and the status as a list."""
    from pyarrow import parquet

    table = parquet.read_table(out / MERGED, partitioning=None)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        columns[name] = column.to_pylist() if name == "status" else np.asarray(column.to_numpy(), np.float64)
    return columns
