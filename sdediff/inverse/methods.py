"""The methods by name, each a function from model to model and one from solver to solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdediff._utils.suggestions import nearest
from sdediff.guidance.changes import map_prediction, with_x0
from sdediff.inverse.ddrm import DDRM
from sdediff.inverse.edits import DPS, Replacement, check_editable
from sdediff.inverse.operators import Problem
from sdediff.inverse.predictions import TMPD, DiffPIR, PiGDM
from sdediff.model.score_model import ScoreModel
from sdediff.solvers import Solver, SolverError


@dataclass(frozen=True)
class Method:
    """What a method does. model, solver: what it makes of those (None: it leaves them), given the problem and options.

    takes: the options' names. default: the solver it was published with. enforces: it makes A x = y hold and does not
    use the measurement's noise.
    """

    model: Callable[..., ScoreModel] | None
    solver: Callable[..., Solver] | None
    takes: tuple[str, ...]
    default: str
    reference: str
    enforces: bool = False


def _changed(make: Callable[..., Any]) -> Callable[..., ScoreModel]:
    def changed(model: ScoreModel, problem: Problem, **options: Any) -> ScoreModel:
        return map_prediction(with_x0(model, make.__name__), make(problem, **options))

    return changed


def _replacement(solver: Solver, problem: Problem, **options: Any) -> Solver:
    return Replacement(solver, problem, **options)


def _repaint(solver: Solver, problem: Problem, resamplings: int = 10, jump: int = 1) -> Solver:
    return Replacement(solver, problem, resamplings, jump)


def _dps(solver: Solver, problem: Problem, **options: Any) -> Solver:
    return DPS(solver, problem, **options)


def _mcg(solver: Solver, problem: Problem, scale: float = 1.0) -> Solver:
    return Replacement(DPS(solver, problem, scale), problem)


def _ddrm(solver: Solver, problem: Problem, **options: Any) -> Solver:
    if type(solver).__name__ != "Ancestral":
        raise SolverError(f"ddrm has a step of its own in place of {solver!r}: leave solver out")
    return DDRM(problem, **options)


METHODS: dict[str, Method] = {
    "replacement": Method(None, _replacement, ("fixed",), "ancestral", "Song et al. 2021", True),
    "repaint": Method(None, _repaint, ("resamplings", "jump"), "ancestral", "Lugmayr et al. 2022", True),
    "dps": Method(None, _dps, ("scale",), "ancestral", "Chung et al. 2023"),
    "mcg": Method(None, _mcg, ("scale",), "ancestral", "Chung et al. 2022", True),
    "pigdm": Method(_changed(PiGDM), None, ("std",), "ancestral", "Song et al. 2023"),
    "tmpd": Method(_changed(TMPD), None, ("iterations",), "ancestral", "Boys et al. 2023; Rozet et al. 2024"),
    "diffpir": Method(_changed(DiffPIR), None, ("weight",), "renoise", "Zhu et al. 2023"),
    "ddrm": Method(None, _ddrm, ("eta", "eta_b"), "ancestral", "Kawar et al. 2022"),
}


def method(name: str) -> Method:
    """The method of a name in METHODS; unknown names are answered with the nearest."""
    if name not in METHODS:
        raise SolverError(nearest(name, METHODS, "method"))
    return METHODS[name]


def applied(
    name: str, model: ScoreModel, solver: Solver, problem: Problem, options: dict[str, Any]
) -> tuple[ScoreModel, Solver]:
    """The model and the solver that sample the posterior of a problem by a method."""
    chosen = method(name)
    for option in options:
        if option not in chosen.takes:
            raise SolverError(nearest(option, chosen.takes, f"option of {name}") if chosen.takes else
                              f"{name} takes no options, given {option!r}")  # fmt: skip
    if chosen.model is not None:
        if solver.corrector:
            check_editable(solver, name)
        model = chosen.model(model, problem, **options)
        return model, solver
    if chosen.solver is not None:
        solver = chosen.solver(solver, problem, **options)
    return model, solver
