"""Reading a sweep's folder: rows and times of what is finished, settings, and what the last run wrote about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdediff._utils.errors import InputError
from sdediff._utils.files import whole
from sdediff.benchmark.cells import TIMES, Cell
from sdediff.jobs.folder import JOURNAL
from sdediff.jobs.journal import Journal
from sdediff.jobs.manifest import stored_manifest

CELLS, TIMES_FILE, SUMMARY, RACED = "cells.parquet", "times.parquet", "summary.json", "raced.json"
_LARGEST = 1 << 24


def stored_sweep(folder: Path) -> dict[str, Any]:
    """The manifest of a sweep's folder; InputError where it holds none."""
    stored = stored_manifest(folder)
    if stored is None or stored["work"] != "sweep":
        raise InputError(f"{folder}: not a result of sdediff bench: give the folder of its --out")
    return stored


def read_cells(folder: Path, distances: list[str]) -> list[Cell]:
    """The finished cells of a sweep, in their order, with their times."""
    from pyarrow import ArrowException, parquet

    result = folder / CELLS
    files = [result] if result.exists() else sorted((folder / "shards").glob("*.parquet"))
    try:
        rows = [row for file in files for row in parquet.ParquetFile(file).read(use_threads=False).to_pylist()]
        times = read_times(folder)
        return [Cell.of(row, distances, times.get(row["index"], {})) for row in rows]
    except (ArrowException, OSError, KeyError, TypeError) as error:
        raise InputError(f"{result}: not the cells of a sweep ({error}): run the sweep again") from error


def read_times(folder: Path) -> dict[int, dict[str, Any]]:
    """The times of every finished cell, from the journal."""
    times: dict[int, dict[str, Any]] = {}
    for journal in sorted(folder.glob(f"{JOURNAL}*.jsonl")):
        for line in Journal(journal).read(lambda _: None):
            times[line.range.start] = line.facts.get("times", {})
    return times


def write_times(folder: Path, about: dict[str, Any]) -> None:
    """Write times.parquet: a row a cell; about: what they were measured with, for the file's metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    times = dict(sorted(read_times(folder).items()))
    kinds = {"index": "int64", **{name: kind for name, (kind, _) in TIMES.items()}}
    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in kinds.items()]
    schema = pa.schema(fields, metadata={"sdediff": json.dumps(about)})
    columns: dict[str, list[Any]] = {"index": list(times)}
    columns |= {name: [row.get(name) for row in times.values()] for name in TIMES}
    with whole(folder / TIMES_FILE) as unfinished:
        parquet.write_table(pa.table(columns, schema=schema), unfinished)


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json, or nothing where it was not written or is damaged: no number depends on it."""
    path = folder / SUMMARY
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
