"""Cells of several seeds as one row, every quality with its standard error over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any, NamedTuple

from sdediff.benchmark.cells import ERRORS, OK, REAL_DATA, Cell, full_name


class Quality(NamedTuple):
    """A mean over seeds and its standard error; of one seed that over samples, None where that is not known."""

    value: float
    std_error: float | None

    def __str__(self) -> str:
        value, error = self
        if not math.isfinite(value):
            return "not finite"
        if not error or not math.isfinite(error) or value >= 1e4:
            return f"{value:.2g}"
        digits = max(0, -math.floor(math.log10(error)))
        return f"{value:.{digits}f}+-{error:.{digits}f}" if digits < 5 or value > 0.01 else f"{value:.1e}+-{error:.0e}"


@dataclass(frozen=True)
class Row:
    """A solver at one budget on one task: the cells of all seeds that ran.

    quality: of error_median, error_q90, error_q99, error_rms, other_mode (None for what is stochastic), each
    distance, and "gaussian", which has no noise. ms: milliseconds a sample; ratio: that over the network's own time;
    both medians over seeds.
    """

    task: str
    library: str
    solver: str
    grid: str | None
    budget: int | None
    tolerance: float | None
    stochastic: bool
    steps: int | None
    calls: int | None
    samples: int
    seeds: int
    quality: dict[str, Quality]
    ms: float | None
    ratio: float | None
    peak_bytes: int | None
    remark: str | None

    @property
    def name(self) -> str:
        """The solver's name, behind that of its library where that is another."""
        return full_name(self.library, self.solver)

    @property
    def label(self) -> str:
        """`name`, followed by its tolerance where that is its budget."""
        return f"{self.name} {self.tolerance:g}" if self.tolerance is not None else self.name

    @property
    def at(self) -> tuple[str, str, int | None, float | None]:
        """Task, name and budget: what rows on several grids have in common."""
        return (self.task, self.name, self.budget, self.tolerance)

    @property
    def real(self) -> bool:
        """Whether this is real data in place of samples."""
        return self.library == REAL_DATA

    @property
    def error(self) -> float | None:
        """The median error against the exact flow, if it has one."""
        return self.quality["error_median"].value if "error_median" in self.quality else None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**asdict(self), "quality": {name: list(value) for name, value in self.quality.items()}}


def joined(cells: Sequence[Cell]) -> list[Row]:
    """The rows of cells, in the order of their first seed; cells that did not run are left out."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        if cell.status == OK:
            groups.setdefault(cell.key, []).append(cell)
    return [_row(group) for group in groups.values()]


def _row(cells: list[Cell]) -> Row:
    first = cells[0]
    quality = {
        name: _quality([getattr(cell, name) for cell in cells]) for name in ERRORS if first.error_rms is not None
    }
    if first.gaussian is not None:
        quality["gaussian"] = Quality(first.gaussian, None)
    for name in first.distances:
        values, errors = zip(*(cell.distances[name] for cell in cells), strict=True)
        quality[name] = _quality(values, errors[0])
    timed = [cell for cell in cells if cell.seconds is not None]
    peaks = [cell.peak_bytes for cell in cells if cell.peak_bytes is not None]
    return Row(
        *first.key[:3], first.grid, first.budget, first.tolerance, first.stochastic, first.steps,
        round(median(cell.calls or 0 for cell in cells)), sum(cell.samples for cell in cells), len(cells), quality,
        1e3 * median(cell.seconds or 0.0 for cell in timed) if timed else None,
        median(cell.ratio or 0.0 for cell in timed) if timed else None,
        max(peaks) if peaks else None, next((cell.remark for cell in cells if cell.remark), None),
    )  # fmt: skip


def _quality(values: Sequence[float], single: float | None = None) -> Quality:
    if len(values) == 1:
        return Quality(values[0], single)
    return Quality(fmean(values), stdev(values) / math.sqrt(len(values)))
