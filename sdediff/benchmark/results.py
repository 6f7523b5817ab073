"""The results of a sweep: one solver at one budget on one task, the floor of a task, and what could not run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SolverResult:
    """One solver at one budget on one task.

    solver: its short name; solver_repr: the whole solver. budget: the network evaluations allowed, or the tolerance
    of an adaptive solver; calls: the evaluations counted. error: median over samples of the rms distance a dimension
    to the exact flow from the same noise, None for stochastic solvers. distance, distance_error: to the true data,
    None where samples are not finite. ms: milliseconds a sample; ratio: total time over the network's own.
    """

    task: str
    solver: str
    solver_repr: str
    grid: str
    steps: int
    budget: int | float | None
    calls: int
    error: float | None
    distance: float | None
    distance_error: float | None
    ms: float
    ratio: float

    @property
    def label(self) -> str:
        """The solver's short name, followed by its tolerance where that is its budget."""
        return f"{self.solver} {self.budget:g}" if isinstance(self.budget, float) else self.solver


@dataclass(frozen=True)
class RealDataFloor:
    """The distance between real data and the true data of a task, at as many samples as the solvers draw."""

    task: str
    distance: float
    distance_error: float


@dataclass(frozen=True)
class SkippedTrial:
    """A solver and budget that could not run on a task, and the reason."""

    task: str
    solver: str
    budget: int | float | None
    reason: str
