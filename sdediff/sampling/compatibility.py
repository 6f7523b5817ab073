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
    refuse_stateful(model, "a State has not")


def refuse_stateful(model: ScoreModel, what: str) -> None:
    """Refuse a change that carries more than states hold, where `what` happens to it."""
    for change in model.changes:
        if getattr(change, "stateful", False):
            raise ModelError(f"{change!r} carries momentum from step to step, which {what}: write momentum=0")
