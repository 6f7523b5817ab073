"""The exact error of a solver on Gaussian data with the covariance of a task's data."""

from __future__ import annotations

import math
import warnings
from typing import Any

from sdediff._utils.errors import Error, StepsWarning
from sdediff.analysis import analyse, spectrum
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
            self._found[key] = _of(entry, point, task.model.sde, self._spectra[task.name])
        return self._found[key]


def _of(entry: SolverEntry, point: Point, sde: Any, values: tuple[float, ...]) -> float | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepsWarning)
            found = analyse(entry.at(point), sde, point.grid, values, calls=point.budget)
    except (Error, ValueError):
        return None
    distance = found.w2 / math.sqrt(len(values))
    return distance if math.isfinite(distance) else None
