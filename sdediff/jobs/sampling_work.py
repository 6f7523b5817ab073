"""`SamplesWork`: sample i of a model for every i, of which each depends on the seed and i alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sdediff.jobs import arrays
from sdediff.jobs.scoring import FAILED
from sdediff.jobs.work import Batch, Work
from sdediff.model.conditions import rows_of_conditions
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.api import sample
from sdediff.solvers import Solver

if TYPE_CHECKING:
    import pyarrow as pa

NOT_FINITE = f"{FAILED}: not finite"


@dataclass(eq=False)
class SamplesWork(Work):
    """Samples index ... index + count - 1 of a model. described: its parts and the settings for the manifest."""

    model: ScoreModel
    size: tuple[int, ...]
    count: int
    index: int
    solver: Solver
    times: torch.Tensor
    seed: int
    cond: dict[str, Any]
    dtype: torch.dtype
    device: torch.device
    described: dict[str, dict[str, Any]]

    name = "samples"
    unit = "sample"

    def __post_init__(self) -> None:
        self.units = self.count
        self.kind = np.dtype(np.float64 if self.dtype == torch.float64 else np.float32)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"data": {}, **self.described}

    @property
    def result(self) -> str:
        return "samples.npz"

    def unit_bytes(self) -> int:
        return math.prod(self.size) * self.kind.itemsize

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        values = pa.list_(pa.from_numpy_dtype(self.kind), math.prod(self.size))
        return pa.schema([("index", pa.int64()), ("x", values), ("status", pa.string())])

    def failed(self, unit: int, message: str) -> dict[str, Any]:
        return {"status": f"{FAILED}: {message}"}

    def batch(self, content: Any, units: Sequence[int]) -> Batch:
        """Draw some samples; those that are not finite are marked."""
        record = sample(
            self.model, (len(units), *self.size), solver=self.solver, grid=self.times, seed=self.seed,
            index=self.index + units[0], cond=self._of(units) or None, dtype=self.dtype, device=self.device, full=True,
            progress=False,
        )  # fmt: skip
        values = record.x.to(torch.float64 if self.kind.itemsize == 8 else torch.float32).cpu().flatten(1)
        good = torch.isfinite(values).all(1).tolist()
        columns = {
            "index": list(units), "x": list(values.numpy()), "status": ["ok" if g else NOT_FINITE for g in good]
        }  # fmt: skip
        return Batch(columns, {"calls": record.calls})

    def _of(self, units: Sequence[int]) -> dict[str, Any]:
        """The conditions of these samples."""
        rows = torch.as_tensor(list(units))
        return rows_of_conditions(self.cond, rows, self.units, self.model.per_sample, self.model.shared)

    def write(self, tables: Iterator[pa.Table], path: Path) -> None:
        """x in the order of the samples, and the settings; failed samples are NaN."""
        settings = json.dumps({**self.described["settings"], "samples": self.units, "index": self.index})
        parts = (self._values(table) for table in tables)
        arrays.write_rows(path, parts, (self.units, *self.size), self.kind, settings)

    def _values(self, table: pa.Table) -> np.ndarray:
        column = table.column("x").combine_chunks()
        out = np.full((len(column), math.prod(self.size)), np.nan, self.kind)
        valid = np.asarray(column.is_valid())
        out[valid] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, out.shape[1])
        return out.reshape(len(column), *self.size)

    def read(self, path: Path, units: range) -> pa.Table:
        """The table of some samples that were drawn without a failure."""
        import pyarrow as pa

        values = arrays.read_rows(path, units.start, units.stop).reshape(len(units), -1)
        good = np.isfinite(values).all(1)
        columns = [list(units), list(values), ["ok" if g else NOT_FINITE for g in good]]
        return pa.table(dict(zip(self.schema().names, columns, strict=True)), schema=self.schema())
