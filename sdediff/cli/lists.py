"""`solvers`, `models` and `check`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from sdediff.cli.options import BadInput, Json, make_solver, naming
from sdediff.cli.output import emit, listed


def solvers(as_json: Json = False) -> None:
    """List the solvers with their kind, order, network evaluations a step, default grid and reference."""
    from sdediff import list_solvers
    from sdediff.solvers.base import FACTS

    registry = list_solvers()
    if as_json:
        facts = {name: {fact: getattr(solver, fact) for fact in ("kind", *FACTS)} for name, solver in registry.items()}
        emit([{"name": name, **facts[name], "repr": repr(solver)} for name, solver in registry.items()])
        return
    listed(
        ("name", "kind", "order", "calls a step", "adaptive", "grid", "reference"),
        ((name, s.kind, s.order, s.calls, s.adaptive, s.grid, s.reference) for name, s in registry.items()),
    )


def models(as_json: Json = False) -> None:
    """List the models in the package with the figures of their cards."""
    from sdediff import models as embedded_models

    with naming("models"):
        summaries = embedded_models()
    if as_json:
        emit([{"name": name, **about} for name, about in summaries.items()])
        return
    keys = ("process", "predicts", "data", "parameters", "bits_per_dim", "frechet", "frechet_of_real")
    titles = ("name", *(key.replace("_", " ").replace("per dim", "/ dim") for key in keys))
    listed(titles, ((name, *(about.get(key) for key in keys)) for name, about in summaries.items()))


def check(
    solver: Annotated[str, typer.Argument(metavar="SOLVER", help="A registered name, or package.module:MySolver.")],
    as_json: Json = False,
) -> None:
    """Run the conformance checks on a registered solver or on one of your own."""
    subject = _imported(solver) if ":" in solver else make_solver(solver, flag="SOLVER")
    from sdediff.testing import ConformanceError, check_solver

    try:
        passed = check_solver(subject)
    except ConformanceError as error:
        raise BadInput(f"{solver}: {error}", code=1) from error
    if as_json:
        emit({"solver": repr(subject), "passed": [{"name": name, "detail": detail} for name, detail in passed]})
        return
    listed(("check", "result"), passed)
    typer.echo(f"{subject!r} passes {len(passed)} checks")


def _imported(place: str) -> Any:
    """The solver that package.module:Name refers to; a class or function is called without arguments."""
    from sdediff.solvers import Solver

    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:  # the console script does not put it there, `python -m` does
        sys.path.insert(0, os.getcwd())
    try:
        value = getattr(importlib.import_module(module), name)
        subject = value if isinstance(value, Solver) else value()
    except Exception as error:  # the user's own code may raise anything
        raise BadInput(
            f"SOLVER: {place} cannot be made ({type(error).__name__}: {error}): give package.module:MySolver, "
            "importable from here and callable without arguments"
        ) from error
    if not isinstance(subject, Solver):
        raise BadInput(f"SOLVER: {place} gives {type(subject).__name__}, needed: a subclass of sdediff.Solver")
    return subject
