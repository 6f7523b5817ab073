"""How a likelihood is to be found: the settings of both methods, their defaults and the literature's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdediff import integrate
from sdediff.likelihood.ends import ENDS, Prior
from sdediff.likelihood.trace import TRACES
from sdediff.model import ScoreModel
from sdediff.names import nearest

METHODS = ("two_pass", "ode")
VARIABLES = ("angle", "t")
ERRORS = ("estimate", "measure")

# Two passes with the exact trace, which has no probes whose noise would hide a coarser path.
EXACT = 1e-4
# What is taken where nothing is given, by method.
DEFAULTS: dict[str, dict[str, Any]] = {
    "two_pass": {
        "integrator": "dopri5", "variable": "angle", "rtol": 1e-3, "atol": 1e-3, "trace": "hadamard", "probes": 8,
        "prior": "auto", "end": "heat",
    },
    "ode": {
        "integrator": "dopri5", "variable": "angle", "rtol": 1e-5, "atol": 1e-5, "trace": "rademacher", "probes": 1,
        "prior": "sigma", "end": "t0",
    },
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "literature": {
        "method": "ode", "integrator": "RK45", "variable": "t", "rtol": 1e-5, "atol": 1e-5, "t0": 1e-5,
        "trace": "rademacher", "probes": 1, "prior": "sigma", "end": "t0",
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Settings:
    """What `log_likelihood` was asked for, resolved; its docstring says what each is."""

    model: ScoreModel
    method: str
    integrator: str
    variable: str
    rtol: float
    atol: float
    t0: float
    trace: str
    probes: int
    nodes: int
    autograd: bool
    seed: int
    prior: Prior
    end: str
    solver_error: str
    max_steps: int
    # States a network call is padded to, where samples that have finished stay in the batch; 0 where they leave.
    frozen: int


def settled(method: str, preset: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The method and its settings: what is given, else the preset's, else the method's default."""
    if preset is not None and preset not in PRESETS:
        raise ValueError(nearest(preset, PRESETS, "preset"))
    known = PRESETS.get(preset or "", {})
    method = known.get("method", method)
    if method not in METHODS:
        raise ValueError(nearest(method, METHODS, "method"))
    chosen = {k: v for k, v in given.items() if v is not None}
    base = DEFAULTS[method]
    if method == "two_pass" and chosen.get("trace") == "exact":
        base = {**base, "rtol": EXACT, "atol": EXACT}
    found = {**base, **known, **chosen}
    return {**found, "method": method}


def checked(s: Settings) -> Settings:
    """The same settings; refuses names, counts and combinations that no method takes."""
    words = ((s.end, ENDS, "end"), (s.variable, VARIABLES, "variable"), (s.trace, TRACES, "trace"))
    for given, known, what in (*words, (s.solver_error, ERRORS, "solver_error")):
        if given not in known:
            raise ValueError(nearest(given, known, what))
    if not 0 < s.t0 < s.model.sde.T:
        raise ValueError(f"t0={s.t0} must lie between 0 and T={s.model.sde.T}")
    if not (s.rtol > 0 and s.atol > 0):
        raise ValueError(f"tolerances must be positive, given rtol={s.rtol}, atol={s.atol}")
    for name in ("probes", "nodes", "max_steps"):
        if getattr(s, name) < 1:
            raise ValueError(f"{name}={getattr(s, name)}: at least one is needed")
    if s.method == "two_pass":
        if s.integrator not in integrate.PAIRS:
            raise ValueError(
                f"integrator={s.integrator!r}: two passes take one of {', '.join(integrate.PAIRS)}; "
                'write method="ode" for the ODE methods of torchdiffeq and scipy'
            )
        if s.variable != "angle":
            raise ValueError(f'variable={s.variable!r}: two passes go over the angle; write method="ode"')
    elif s.frozen or not s.autograd:
        raise ValueError('frozen=True and autograd=False belong to two passes: write method="two_pass"')
    return s
