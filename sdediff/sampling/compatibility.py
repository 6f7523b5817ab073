"""Which changes of a model go with which solvers: each says so, and what cannot work is refused."""

from __future__ import annotations

from sdediff.model.prediction import ModelError
from sdediff.model.score_model import ScoreModel
from sdediff.solvers import Solver, SolverError


def check_changes(model: ScoreModel, solver: Solver) -> None:
    """Refuse a solver with which one of the model's changes cannot work, by its method `refuses(solver)`."""
    for change in model.changes:
        refuses = getattr(change, "refuses", None)
        reason = refuses(solver) if refuses is not None else None
        if reason:
            raise SolverError(f"{type(change).__name__} with {solver!r}: {reason}")


def refuse_resuming(model: ScoreModel) -> None:
    """Refuse to go on from a state where a change carries more than states hold."""
    for change in model.changes:
        if getattr(change, "stateful", False):
            raise ModelError(f"{change!r} carries momentum from step to step, which a State has not: write momentum=0")
