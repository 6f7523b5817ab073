"""The exact error of a solver on Gaussian data with the covariance of a task's data."""

from __future__ import annotations

import math
from typing import Any

from sdediff.analysis import spectrum
from sdediff.analysis.gaussian import exact_distance
from sdediff.benchmark.entries import Entry, Point, SolverEntry
from sdediff.benchmark.tasks import Task

# The eigenvalues of the data's covariance that stand for all.
_EIGENVALUES = 64


class ExactBias:
    """The exact errors of a sweep, each computed once: they depend on no seed."""

    def __init__(self) -> None:
        self._spectra: dict[str, tuple[float, ...]] = {}
        self._found: dict[Any, float | None] = {}

    def of(self, task: Task, entry: Entry, point: Point) -> float | None:
        """W2 to the truth over the root of the dimensions, by `analyse`; None where a run is not a linear map.

        That is so of contenders, adaptive solvers, those that scale by norms, and processes without alpha and sigma.
        """
        if not isinstance(entry, SolverEntry) or point.budget is None:
            return None
        if task.name not in self._spectra:
            data = task.truth.cpu() if task.model.stats is None else task.model.stats
            self._spectra[task.name] = tuple(spectrum(data, _EIGENVALUES).tolist())
        key = (task.name, entry.label, point)
        if key not in self._found:
            found = exact_distance(
                entry.at(point), task.model.sde, point.grid, self._spectra[task.name], calls=point.budget
            )  # fmt: skip
            self._found[key] = None if found is None or math.isinf(found) else found
        return self._found[key]
