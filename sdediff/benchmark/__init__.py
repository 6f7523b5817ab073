"""The sweep of solvers over budgets of network evaluations: its tasks, its cells and rows, its table and its plot."""

from sdediff._utils.machine import machine, versions
from sdediff.benchmark.cells import COLUMNS, TIMES, Cell
from sdediff.benchmark.comparison import Change, Comparison, compare
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
from sdediff.benchmark.entries import Drawn, Entry, Facts, Point, Starts
from sdediff.benchmark.making import DEFAULT_SOLVERS, make_sweep
from sdediff.benchmark.report import Report
from sdediff.benchmark.rows import Quality, Row
from sdediff.benchmark.speed import MODES, Speed, Speeds, speeds
from sdediff.benchmark.sweep import bench
from sdediff.benchmark.sweep_work import SweepWork
from sdediff.benchmark.tasks import ReferenceSolver, Task

__all__ = [
    "COLUMNS",
    "DEFAULT_SOLVERS",
    "LIBRARIES",
    "MODES",
    "RULES",
    "TIMES",
    "Cell",
    "Change",
    "Comparison",
    "Contender",
    "ContenderError",
    "Drawn",
    "Entry",
    "Facts",
    "Finish",
    "Outcome",
    "Point",
    "Quality",
    "ReferenceSolver",
    "Report",
    "Row",
    "Speed",
    "Speeds",
    "Starts",
    "SweepWork",
    "Task",
    "bench",
    "compare",
    "contend",
    "machine",
    "make_sweep",
    "resolve_contenders",
    "speeds",
    "versions",
]
