"""Shards of results: Parquet files written whole or not at all, and one file in the end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sdediff._utils.files import whole

MERGED = "likelihood.parquet"
_KEY = b"sdediff"


def _schema(columns: Sequence[str]) -> Any:
    import pyarrow as pa

    kinds = {"index": pa.int64(), "status": pa.string(), "calls": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])


class Shards:
    """The shards of a job of `size` rows, `step` rows each: NUMBER.parquet in a folder.

    job: the job's id, kept in every shard with what holds for its rows, so that no other job's is taken.
    """

    def __init__(self, folder: Path, size: int, step: int, job: str) -> None:
        self.folder, self.size, self.step, self._job = folder, size, step, job
        self.count = math.ceil(size / step)

    def rows(self, number: int) -> range:
        """The rows of one shard."""
        return range(number * self.step, min((number + 1) * self.step, self.size))

    def path(self, number: int) -> Path:
        """Its file."""
        return self.folder / f"{number:06d}.parquet"

    def done(self) -> int:
        """How many are finished."""
        return sum(self.path(number).exists() for number in range(self.count))

    def write(self, number: int, columns: dict[str, list[Any]], facts: dict[str, Any]) -> None:
        """Writes a finished shard."""
        import pyarrow as pa
        from pyarrow import parquet

        arrays = {name: [_known(v) for v in values] for name, values in columns.items()}
        said = {_KEY: json.dumps({**facts, "job": self._job})}
        table = pa.table(arrays, schema=_schema(list(columns)).with_metadata(said))
        with whole(self.path(number)) as unfinished:
            parquet.write_table(table, unfinished)

    def discard_damaged(self, say: Callable[[str], None]) -> None:
        """Removes files that are not the whole shard of this job that their name says."""
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
        """Writes all shards to one file, a row group each, and returns what each said of its rows.

        The file depends on the values alone: time and place of the work stand in the shards.
        """
        from pyarrow import parquet

        facts, schema = [], _schema(columns)
        with whole(out) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
            for number in range(self.count):
                table = parquet.read_table(self.path(number), partitioning=None)
                facts.append(json.loads(table.schema.metadata[_KEY]))
                writer.write_table(table.replace_schema_metadata(None))
        return facts


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def merged(out: Path) -> dict[str, Any]:
    """The columns of a finished job: float arrays with NaN where nothing is known, and lists of words."""
    import numpy as np
    from pyarrow import parquet

    table = parquet.read_table(out / MERGED, partitioning=None)
    found: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        words = name == "status"
        found[name] = column.to_pylist() if words else np.asarray(column.to_numpy(), np.float64)
    return found
