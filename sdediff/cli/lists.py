"""`solvers`, `models` and `check`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from sdediff.cli.options import BadInput, Json, made, naming
from sdediff.cli.output import emit, listed


def solvers(as_json: Json = False) -> None:
    """List the solvers: kind, order, network evaluations a step, default grid and reference."""
    from sdediff import list_solvers, solver

    registered = list_solvers()
    if as_json:
        emit([{**info._asdict(), "repr": repr(solver(name))} for name, info in registered.items()])
        return
    listed(
        ("name", "kind", "order", "calls a step", "adaptive", "grid", "reference"),
        ((i.name, i.kind, i.order, i.calls, i.adaptive, i.grid, i.reference) for i in registered.values()),
    )


def models(as_json: Json = False) -> None:
    """List the models inside the package with the figures of their cards."""
    from sdediff import models as stored

    with naming("models"):
        summaries = stored()
    if as_json:
        emit([{"name": name, **summary} for name, summary in summaries.items()])
        return
    keys = ("process", "predicts", "data", "parameters", "bits_per_dim", "frechet", "frechet_of_real")
    titles = ("name", *(key.replace("_", " ").replace("per dim", "/ dim") for key in keys))
    listed(titles, ((name, *(summary.get(key) for key in keys)) for name, summary in summaries.items()))


def check(
    solver: Annotated[str, typer.Argument(metavar="SOLVER", help="package.module:MySolver, or a registered name.")],
    as_json: Json = False,
) -> None:
    """Run the conformance kit on a solver of your own, or on a registered one."""
    subject = _imported(solver) if ":" in solver else made(solver, flag="SOLVER")
    from sdediff.testing import ConformanceError, check_solver

    try:
        passed = check_solver(subject)
    except ConformanceError as error:
        raise BadInput(f"{solver}: {error}", code=1) from error
    if as_json:
        emit({"solver": repr(subject), "passed": [{"name": name, "detail": detail} for name, detail in passed]})
        return
    listed(("check", "measured"), passed)
    typer.echo(f"{subject!r} passes {len(passed)} checks")


def _imported(place: str) -> Any:
    """The solver at package.module:Name; a class or function is called without arguments."""
    from sdediff.solvers import Solver

    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:  # the console script does not put it there, `python -m` does
        sys.path.insert(0, os.getcwd())
    try:
        attribute = getattr(importlib.import_module(module), name)
        subject = attribute if isinstance(attribute, Solver) else attribute()
    except Exception as error:  # the user's own code may raise anything
        raise BadInput(
            f"SOLVER: {place} cannot be made ({type(error).__name__}: {error}): give package.module:MySolver, "
            "importable from here and callable without arguments"
        ) from error
    if not isinstance(subject, Solver):
        raise BadInput(f"SOLVER: {place} gives {type(subject).__name__}, needed: a subclass of sdediff.Solver")
    return subject
