"""The sweep of solvers over budgets of network evaluations: its tasks, its results, its table and its plot."""

from sdediff._utils.machine import machine, versions
from sdediff.benchmark.report import Report
from sdediff.benchmark.results import RealDataFloor, SkippedTrial, SolverResult
from sdediff.benchmark.sweep import DEFAULT_SOLVERS, bench
from sdediff.benchmark.tasks import ReferenceSolver, Task

__all__ = [
    "DEFAULT_SOLVERS",
    "RealDataFloor",
    "ReferenceSolver",
    "Report",
    "SkippedTrial",
    "SolverResult",
    "Task",
    "bench",
    "machine",
    "versions",
]
