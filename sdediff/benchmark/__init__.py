"""The sweep of solvers over call counts: its problems, its records, its table and its plot."""

from __future__ import annotations

from sdediff._utils.files import whole
from sdediff._utils.machine import machine, versions
from sdediff.benchmark.problems import Problem, Reference
from sdediff.benchmark.report import Floor, Report, Row, Skip
from sdediff.benchmark.sweep import DEFAULT_SOLVERS, bench

__all__ = [
    "DEFAULT_SOLVERS",
    "Floor",
    "Problem",
    "Reference",
    "Report",
    "Row",
    "Skip",
    "bench",
    "machine",
    "versions",
    "whole",
]
