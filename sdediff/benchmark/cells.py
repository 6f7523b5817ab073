"""The rows of a sweep: a cell is one solver on one task at one budget of network evaluations, from one seed.

cells.parquet holds COLUMNS and, for each distance, its value, standard error and interval under `distance_columns`;
its bytes depend on the arguments, the versions and the seeds alone. Times differ from run to run: they are in TIMES, a
file of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

OK, REFUSED, FAILED = "ok", "refused", "failed"
# The `library` of a row whose samples are real data: the least distance that a solver can be expected to reach.
REAL_DATA = "data"

# Every column, its Arrow type and what it holds; a value that does not apply is null.
COLUMNS: dict[str, tuple[str, str]] = {
    "index": ("int64", "number of the cell"),
    "status": ("string", "ok; 'refused: reason' before a run, such as too few calls; 'failed: reason' in a run"),
    "task": ("string", "name of the model or target"),
    "library": ("string", "sdediff, the library of a contender, or 'data': real data in place of samples"),
    "solver": ("string", "label of the solver or contender"),
    "grid": ("string", "name of the grid; null where a contender chooses it"),
    "budget": ("int64", "network evaluations allowed; null of adaptive solvers and real data"),
    "tolerance": ("float64", "rtol and atol of an adaptive solver"),
    "seed": ("int64", "seed of the starts, of the noise and of the choice of real data"),
    "samples": ("int64", "number of samples drawn"),
    "stochastic": ("bool", "whether the samples depend on more than their starts"),
    "steps": ("int64", "steps of the solver; null where it does not say"),
    "calls": ("int64", "network evaluations a sample, counted at the network"),
    "end": ("float64", "time at which the samples stand; null: data, after the last denoising call"),
    "error_median": ("float64", "rms distance a dimension to the exact flow from the same start: median over samples"),
    "error_q90": ("float64", "its quantile 0.9"),
    "error_q99": ("float64", "its quantile 0.99"),
    "error_rms": ("float64", "its root mean square over samples"),
    "other_mode": ("float64", "share of samples whose nearest mode (component or true row) is not that of the flow"),
    "gaussian": ("float64", "exact W2 over the root of the dimensions on Gaussian data of the data's covariance"),
    "remark": ("string", "what differs from other rows, such as another end, or what auto chose; null: nothing"),
}  # fmt: skip

# What was measured with a clock, or with the device's memory.
TIMES: dict[str, tuple[str, str]] = {
    "seconds": ("float64", "wall time of a sample: the median over batches"),
    "network_seconds": ("float64", "the part of it inside the network"),
    "ratio": ("float64", "seconds over network_seconds: the median over batches"),
    "peak_bytes": ("int64", "most memory of the device that was allocated; null on a CPU"),
    "cpu": ("string", "the processor"),
    "device": ("string", "the device"),
}

ERRORS = ("error_median", "error_q90", "error_q99", "error_rms", "other_mode")


@dataclass(frozen=True)
class Cell:
    """A row of cells.parquet with its times: fields as in COLUMNS and TIMES. distances: name -> (value, error)."""

    index: int
    status: str
    task: str
    library: str
    solver: str
    grid: str | None
    budget: int | None
    tolerance: float | None
    seed: int
    samples: int
    stochastic: bool
    steps: int | None
    calls: int | None
    end: float | None
    error_median: float | None
    error_q90: float | None
    error_q99: float | None
    error_rms: float | None
    other_mode: float | None
    gaussian: float | None
    remark: str | None
    seconds: float | None = None
    network_seconds: float | None = None
    ratio: float | None = None
    peak_bytes: int | None = None
    cpu: str | None = None
    device: str | None = None
    distances: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str | None, int | None, float | None]:
        """What cells of different seeds have in common."""
        return (self.task, self.library, self.solver, self.grid, self.budget, self.tolerance)

    @classmethod
    def of(cls, row: dict[str, Any], distances: Sequence[str], times: dict[str, Any]) -> Cell:
        """The cell of a row of columns and its times."""
        values: dict[str, Any] = {name: row[name] for name in COLUMNS}
        clock: dict[str, Any] = {name: times.get(name) for name in TIMES}
        found = {}
        for name in distances:
            value, error, *_ = distance_columns(name)
            if row.get(value) is not None:
                found[name] = (row[value], row[error])
        return cls(**values, **clock, distances=found)


def full_name(library: str, solver: str) -> str:
    """A solver's name, behind that of its library where that is another."""
    return solver if library in ("sdediff", REAL_DATA) else f"{library}:{solver}"


def distance_columns(name: str) -> tuple[str, str, str, str]:
    """The columns of a distance: "energy", its standard error over samples "energy_se", its interval of 95 %."""
    return name, f"{name}_se", f"{name}_low", f"{name}_high"


def column_types(distances: Sequence[str]) -> dict[str, str]:
    """Every column of cells.parquet and its Arrow type."""
    types = {name: kind for name, (kind, _) in COLUMNS.items()}
    return types | {name: "float64" for each in distances for name in distance_columns(each)}


def empty() -> dict[str, Any]:
    """The columns without values."""
    return dict.fromkeys(COLUMNS)
