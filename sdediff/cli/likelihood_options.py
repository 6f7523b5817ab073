"""The settings of a likelihood as options of the command."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from sdediff._utils.suggestions import nearest
from sdediff.cli.options import BadInput, naming
from sdediff.integrate import ODES
from sdediff.likelihood import LikelihoodSettings
from sdediff.likelihood.settings import METHODS

_HELP = {f.name: f.metadata["help"] for f in fields(LikelihoodSettings)}


def _option(name: str, **limits: Any) -> Any:
    """The option of a field of LikelihoodSettings, with the help of that field."""
    return typer.Option(help=_HELP[name], **limits)


@dataclass(frozen=True)
class LikelihoodOptions:
    """The fields of LikelihoodSettings that a command line can say; None where they are left out."""

    method: Annotated[str | None, typer.Option(help=_HELP["method"] + " An integrator stands for ode.")] = None
    preset: Annotated[str | None, _option("preset")] = None
    integrator: Annotated[str | None, _option("integrator")] = None
    variable: Annotated[str | None, _option("variable")] = None
    trace: Annotated[str | None, _option("trace")] = None
    probes: Annotated[int | None, _option("probes", min=1)] = None
    nodes: Annotated[int | None, _option("nodes", min=1)] = None
    autograd: Annotated[bool | None, _option("autograd")] = None
    rtol: Annotated[float | None, _option("rtol")] = None
    atol: Annotated[float | None, _option("atol")] = None
    t0: Annotated[float | None, _option("t0")] = None
    end: Annotated[str | None, _option("end")] = None
    prior: Annotated[str | None, _option("prior")] = None
    steps: Annotated[int | None, _option("steps", min=1)] = None
    noises: Annotated[int | None, _option("noises", min=1)] = None
    fresh: Annotated[bool | None, _option("fresh")] = None
    variance: Annotated[str | None, _option("variance")] = None
    solver_error: Annotated[str | None, _option("solver_error")] = None
    max_steps: Annotated[int | None, _option("max_steps", min=1)] = None
    frozen: Annotated[bool | None, _option("frozen")] = None

    def settings(self) -> LikelihoodSettings:
        """The settings, added one by one, so that an error carries the name of the option that brought it."""
        given = {name: value for name, value in vars(self).items() if value is not None and name != "method"}
        method = self.method
        if method is not None and method not in METHODS + ODES:
            raise BadInput(f"--method: {nearest(method, METHODS + ODES, 'method')}")
        if method is not None and method not in METHODS:
            if self.integrator is not None:
                raise BadInput(f"--integrator: --method {method} is an integrator already: write --method ode")
            method, given = "ode", {"integrator": method, **given}
        settings = LikelihoodSettings(method=method)
        for name, value in given.items():
            with naming(f"--{name.replace('_', '-')}"):
                settings = dataclasses.replace(settings, **{name: value})
        return settings
