"""How a likelihood is to be found: the settings of every method, their defaults and the literature's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sdediff import integrate
from sdediff._utils.suggestions import nearest
from sdediff.likelihood.ends import Prior
from sdediff.likelihood.trace import TRACES
from sdediff.likelihood.units import Discrete
from sdediff.model.prediction import VARIANCES
from sdediff.model.score_model import ScoreModel

ERRORS = ("estimate", "measure")
# Which density is meant. Of the flow: that of x at t0, at 0 by the heat equation, or a bound through an x_t0 drawn
# from q(x_t0 | x). Of a bound: that of the data, or of x at t0.
_FLOW, _BOUND = ("t0", "heat", "noised"), ("data", "t0")
ENDS = {"two_pass": _FLOW, "ode": _FLOW, "vlb": _BOUND, "continuous_vlb": _BOUND[:1]}
# Of these integer data need not be dequantised.
MASS = ("noised", "data")
VARIABLES = {"two_pass": ("angle",), "ode": ("angle", "t"), "vlb": (), "continuous_vlb": ("lam", "t")}
METHODS = tuple(ENDS)
# How a likelihood by the ODE is differentiated: back through the solver's steps, or by the adjoint ODE.
GRADIENTS = ("direct", "adjoint")
# Nodes of the continuous bound, steps of a chain on a process without knots.
NODES, STEPS = 128, 256

# Two passes with the exact trace, which has no probes whose noise would hide a coarser path.
EXACT = 1.5e-3
# Below this tolerance two passes take a pair of order 5; above it, one of order 3, which on networks, rough in time,
# loses least a call.
_FINE, _SMOOTH = 1e-3, {"integrator": "dopri5", "nodes": 4}
# What is taken where nothing is given, by method.
_TRACED: dict[str, Any] = {"nodes": 2, "autograd": True, "max_steps": 1000, "frozen": False, "discrete": None}
_BOUNDS: dict[str, Any] = {
    "noises": 1, "fresh": True, "prior": "sigma", "end": "data", "steps": None, "discrete": None, "frozen": False,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "two_pass": {
        "integrator": "bosh3", "variable": "angle", "rtol": 3e-3, "atol": 3e-3, "trace": "hadamard", "probes": 12,
        "prior": "auto", "end": "heat", **_TRACED,
    },
    "ode": {
        "integrator": "dopri5", "variable": "angle", "rtol": 1e-5, "atol": 1e-5, "trace": "rademacher", "probes": 1,
        "prior": "sigma", "end": "t0", "gradient": None, "discrete": None,
    },
    "vlb": {**_BOUNDS, "variance": "small"},
    "continuous_vlb": {**_BOUNDS, "variable": "lam"},
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "literature": {
        "method": "ode", "integrator": "RK45", "variable": "t", "rtol": 1e-5, "atol": 1e-5, "t0": 1e-5,
        "trace": "rademacher", "probes": 1, "prior": "sigma", "end": "t0",
    },
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Settings:
    """What `log_likelihood` was asked for, resolved; its docstring says what each is. Others' settings are empty."""

    model: ScoreModel
    method: str
    seed: int
    t0: float
    prior: Prior
    end: str
    solver_error: str
    discrete: Discrete | None = None
    progress: bool | None = False
    # States a network call is padded to, where samples that have finished stay in the batch; 0 where they leave.
    frozen: int = 0
    integrator: str = ""
    variable: str = ""
    rtol: float = 1.0
    atol: float = 1.0
    trace: str = "exact"
    probes: int = 1
    nodes: int = 1
    autograd: bool = True
    gradient: str | None = None
    max_steps: int = 1
    steps: int | None = None
    noises: int = 1
    fresh: bool = True
    variance: str = "small"

    def finer(self) -> Settings:
        """The settings of a second run that tells what the first was off by: half the tolerance, or twice the nodes."""
        if self.method == "continuous_vlb":
            return replace(self, steps=2 * (self.steps or NODES), seed=self.seed ^ 1 << 63)
        return replace(self, rtol=self.rtol / 2, atol=self.atol / 2, nodes=self.nodes + 1)


def settled(method: str, preset: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The method and its settings: what is given, else the preset's, else the method's default."""
    if preset is not None and preset not in PRESETS:
        raise ValueError(nearest(preset, PRESETS, "preset"))
    known = PRESETS.get(preset or "", {})
    method = known.get("method", method)
    if method not in METHODS:
        raise ValueError(nearest(method, METHODS, "method"))
    chosen, base = {k: v for k, v in given.items() if v is not None}, DEFAULTS[method]
    for name in chosen:
        if name not in base and name != "t0":
            theirs = " or ".join(repr(other) for other, its in DEFAULTS.items() if name in its)
            raise ValueError(f"{name}={chosen[name]!r} does not belong to method={method!r}: it is for {theirs}")
    if method == "two_pass" and chosen.get("trace") == "exact":
        base = {**base, "rtol": EXACT, "atol": EXACT}
    if method == "two_pass" and chosen.get("rtol", _FINE) < _FINE:
        base = {**base, **_SMOOTH}
    if method == "vlb" and chosen.get("end") == "t0":
        base = {**base, "variance": "large"}
    return {**base, **known, **chosen, "method": method}


def checked(s: Settings) -> Settings:
    """The same settings; refuses names, counts and combinations that no method takes."""
    words: list[tuple[Any, Any, str]] = [
        (s.end, ENDS[s.method], f"end of {s.method}"), (s.trace, TRACES, "trace"), (s.variance, VARIANCES, "variance"),
        (s.solver_error, ERRORS, "solver_error"),
    ]  # fmt: skip
    if s.variable:
        words.append((s.variable, VARIABLES[s.method], f"variable of {s.method}"))
    if s.gradient is not None:
        words.append((s.gradient, GRADIENTS, "gradient"))
    if s.method == "two_pass" and s.integrator not in integrate.PAIRS:
        raise ValueError(
            f"integrator={s.integrator!r}: two passes take one of {', '.join(integrate.PAIRS)}; "
            'write method="ode" for the ODE methods of torchdiffeq and scipy'
        )
    for given, known, what in words:
        if given not in known:
            raise ValueError(nearest(given, known, what))
    if not 0 < s.t0 < s.model.sde.T:
        raise ValueError(f"t0={s.t0} must lie between 0 and T={s.model.sde.T}")
    if not (s.rtol > 0 and s.atol > 0):
        raise ValueError(f"tolerances must be positive, given rtol={s.rtol}, atol={s.atol}")
    for name in ("probes", "nodes", "max_steps", "noises", "steps"):
        if (getattr(s, name) or 1) < 1 or getattr(s, name) == 0:
            raise ValueError(f"{name}={getattr(s, name)}: at least one is needed")
    if s.discrete is not None and s.end not in MASS:
        raise ValueError(
            f"discrete={s.discrete} makes log p a probability of levels, but end={s.end!r} gives a density: "
            'write end="noised", or a bound with end="data"'
        )
    return s
