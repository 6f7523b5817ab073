"""Samplers of other libraries beside this package's solvers, under equal conditions that are enforced."""

from sdediff.benchmark.contenders.exact import errors, exact_end
from sdediff.benchmark.contenders.protocol import Contender, ContenderError, Finish
from sdediff.benchmark.contenders.registry import LIBRARIES, installed, missing, resolve_contenders
from sdediff.benchmark.contenders.rules import RULES, Outcome, contend

__all__ = [
    "LIBRARIES",
    "RULES",
    "Contender",
    "ContenderError",
    "Finish",
    "Outcome",
    "contend",
    "errors",
    "exact_end",
    "installed",
    "missing",
    "resolve_contenders",
]
