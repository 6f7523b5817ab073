"""The sweep of solvers over budgets of network evaluations: its tasks, its results, its table and its plot."""

from sdediff._utils.machine import machine, versions
from sdediff.benchmark.contenders import (
    LIBRARIES,
    RULES,
    Contender,
    ContenderError,
    Finish,
    Outcome,
    contend,
    resolve_contenders,
)
from sdediff.benchmark.report import Report
from sdediff.benchmark.results import RealDataFloor, SkippedTrial, SolverResult
from sdediff.benchmark.sweep import DEFAULT_SOLVERS, bench
from sdediff.benchmark.tasks import ReferenceSolver, Task

__all__ = [
    "DEFAULT_SOLVERS",
    "LIBRARIES",
    "RULES",
    "Contender",
    "ContenderError",
    "Finish",
    "Outcome",
    "RealDataFloor",
    "ReferenceSolver",
    "Report",
    "SkippedTrial",
    "SolverResult",
    "Task",
    "bench",
    "contend",
    "machine",
    "resolve_contenders",
    "versions",
]
