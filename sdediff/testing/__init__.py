"""The conformance kit: what every process, model and solver must hold, ours and other people's."""

from sdediff.testing.models import check_model, check_sde
from sdediff.testing.reference import ReferenceFlow
from sdediff.testing.report import Check, ConformanceError
from sdediff.testing.solvers import SOLVER_CHECKS, check_solver, measured_order

__all__ = [
    "SOLVER_CHECKS",
    "Check",
    "ConformanceError",
    "ReferenceFlow",
    "check_model",
    "check_sde",
    "check_solver",
    "measured_order",
]
