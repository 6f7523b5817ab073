"""`conformance`: the conformance checks of a solver."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from sdediff.cli.options import BadInput, Json, make_solver
from sdediff.cli.output import emit, listed


def conformance(
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
