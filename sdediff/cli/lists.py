"""`solvers` and `models`."""

from __future__ import annotations

from sdediff.cli.options import Json, naming
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
