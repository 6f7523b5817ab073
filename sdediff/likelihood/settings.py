"""`LikelihoodSettings`: every setting of `log_likelihood`, with its default, its check and its documentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sdediff import integrate
from sdediff._utils.checks import flag, known, number, shown, whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.likelihood.ends import PRIORS, Prior
from sdediff.likelihood.trace import TRACES
from sdediff.likelihood.units import Discrete
from sdediff.model.prediction import VARIANCES
from sdediff.sde.base import SDE

# The densities that can be reported. By the flow: that of x at t0, that at 0 by the heat equation, or a bound through
# an x_t0 drawn from q(x_t0 | x). By a variational bound: that of the data, or of x at t0.
_FLOW_ENDS, _BOUND_ENDS = ("t0", "heat", "noised"), ("data", "t0")
ENDS = {"two_pass": _FLOW_ENDS, "ode": _FLOW_ENDS, "vlb": _BOUND_ENDS, "continuous_vlb": _BOUND_ENDS[:1]}
# The ends that score integer levels as they are, without dequantisation.
LEVEL_ENDS = ("noised", "data")
METHODS = tuple(ENDS)
VARIABLES = {"two_pass": ("angle",), "ode": ("angle", "t"), "vlb": (), "continuous_vlb": ("lam", "t")}
GRADIENTS = ("direct", "adjoint")
ERRORS = ("estimate", "measure")
# Quadrature nodes of the continuous bound, and steps of a chain whose process has no training timesteps.
NODES, STEPS = 128, 256

# ODE methods whose steps do not depend on the tolerances.
_FIXED_STEP = tuple(
    name for name in integrate.TORCHDIFFEQ if name not in (*integrate.TORCHDIFFEQ_ADAPTIVE, "implicit_adams")
)

# Tolerance of two passes with the exact trace: there is no probe noise that would hide a coarser path.
_EXACT_TOLERANCE = 1.5e-3
# Below this tolerance two passes take a pair of order 5. Above it they take one of order 3, which loses least a call
# on networks, whose outputs are rough in time.
_FINE, _ORDER_5 = 1e-3, {"integrator": "dopri5", "nodes": 4}
_BOUND: dict[str, Any] = {
    "noises": 1, "fresh": True, "prior": "sigma", "end": "data", "steps": None, "discrete": None, "frozen": False,
    "t0": None, "solver_error": "estimate",
}  # fmt: skip
# The settings that each method takes, with their defaults. t0 None stands for the process's own.
DEFAULTS: dict[str, dict[str, Any]] = {
    "two_pass": {
        "integrator": "bosh3", "variable": "angle", "rtol": 3e-3, "atol": 3e-3, "t0": None, "trace": "hadamard",
        "probes": 12, "nodes": 2, "autograd": True, "prior": "auto", "end": "heat", "discrete": None,
        "max_steps": 1000, "frozen": False, "solver_error": "estimate",
    },
    "ode": {
        "integrator": "dopri5", "variable": "angle", "rtol": 1e-5, "atol": 1e-5, "t0": None, "trace": "rademacher",
        "probes": 1, "gradient": None, "prior": "sigma", "end": "t0", "discrete": None, "solver_error": "estimate",
    },
    "vlb": {**_BOUND, "variance": "small"},
    "continuous_vlb": {**_BOUND, "variable": "lam"},
}  # fmt: skip
# Of numbers of which more would take longer than anyone waits, or more memory than there is.
_MOST = {"probes": 1_000_000, "nodes": 100, "max_steps": 1 << 40, "noises": 1_000_000, "steps": 1_000_000}
PRESETS: dict[str, dict[str, Any]] = {
    "literature": {
        "method": "ode", "integrator": "RK45", "variable": "t", "rtol": 1e-5, "atol": 1e-5,
        "trace": "rademacher", "probes": 1, "prior": "sigma", "end": "t0",
    },
}  # fmt: skip


def _setting(text: str) -> Any:
    """A field that is None where the preset or the method decides; `text` documents it here and on the command line."""
    return field(default=None, metadata={"help": text})


@dataclass(frozen=True, kw_only=True, repr=False)
class LikelihoodSettings:
    """The settings of `log_likelihood`, checked together when they are made.

    Every setting is None where the preset decides, or else the method; `values()` has the defaults filled in.
    ValueError where a name is unknown, a number is out of range, or a setting would have no effect. Settings:
    """

    method: str | None = _setting("two_pass (default), ode, vlb, or continuous_vlb.")
    preset: str | None = _setting("literature: RK45 over t, tolerances 1e-5, one fixed probe.")
    integrator: str | None = _setting("Runge-Kutta pair of two_pass, or any ODE method for ode.")
    variable: str | None = _setting("Integrate ode over angle or t, continuous_vlb over lam or t.")
    rtol: float | None = _setting("Relative tolerance of the integrator.")
    atol: float | None = _setting("Absolute tolerance of the integrator.")
    t0: float | None = _setting("Time at which the flow starts; default: the process's t0.")
    trace: str | None = _setting("Divergence: exact, or by hadamard, rademacher or gaussian probes.")
    probes: int | None = _setting("Probes a sample and node; two or more give a standard error.")
    nodes: int | None = _setting("Gauss-Legendre nodes a step for the divergence of two_pass.")
    autograd: bool | None = _setting("Take the divergence by gradients, or by central differences.")
    gradient: str | None = _setting("Differentiate ode: direct, back through its steps, or adjoint.")
    prior: Prior | None = _setting("Density at T: auto, sigma, unit, std, diagonal, full; in Python also a function.")  # noqa: RUF009
    end: str | None = _setting("Reported density: t0, heat or noised; of a bound: data or t0.")
    discrete: Discrete | None = _setting("The integer levels of x, to report their probability.")  # noqa: RUF009
    steps: int | None = _setting("Steps of vlb, quadrature nodes of continuous_vlb.")
    noises: int | None = _setting("Noise draws a step or node of a bound.")
    fresh: bool | None = _setting("Draw new noise for each term of a bound, or one for all.")
    variance: str | None = _setting("Reverse variance of vlb: small, large, learned or learned_range.")
    solver_error: str | None = _setting("estimate, or measure by a second run at eight times the tolerance.")
    max_steps: int | None = _setting("Accepted and rejected steps that a sample may take.")
    frozen: bool | None = _setting("Keep finished samples in the batch: equal to the bit in any batch.")

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_names(self)
        _check_numbers(self)
        _check_effects(self)

    def __repr__(self) -> str:
        return f"LikelihoodSettings({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def values(self) -> dict[str, Any]:
        """Every setting as the method uses it: as given, else the preset's, else the method's default.

        Settings that belong to other methods are None.
        """
        preset, given = PRESETS.get(self.preset or "", {}), self.given()
        method = given.get("method", preset.get("method", "two_pass"))
        values: dict[str, Any] = {**dict.fromkeys(f.name for f in fields(self)), **DEFAULTS[method]}
        if method == "two_pass" and given.get("trace") == "exact":
            values.update(rtol=_EXACT_TOLERANCE, atol=_EXACT_TOLERANCE)
        if method == "two_pass" and given.get("rtol", _FINE) < _FINE:
            values.update(_ORDER_5)
        if method == "vlb" and known(given.get("end"), ("t0",)):
            values.update(variance="large")
        return {**values, **preset, **given, "method": method}

    def start_time(self, sde: SDE) -> float:
        """t0, or that of the process; ValueError where it lies outside of (0, T) or would have no effect."""
        values = self.values()
        if self.t0 is not None and values["method"] == "vlb" and hasattr(sde, "n") and values["end"] == "data":
            raise InputError(f"t0={self.t0}: the chain of a table ends at its first training timestep: leave t0 out")
        t0: float = sde.t0 if values["t0"] is None else values["t0"]
        if not 0 < t0 < sde.T:
            raise InputError(f"t0={t0} must lie between 0 and T={sde.T}")
        return t0

    def with_defaults(self, **defaults: Any) -> LikelihoodSettings:
        """The same settings, with other defaults for those that are None."""
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})


LikelihoodSettings.__doc__ = f"{LikelihoodSettings.__doc__}" + "".join(
    f"\n        {f.name}: {f.metadata['help']}" for f in fields(LikelihoodSettings)
)


def merged(settings: LikelihoodSettings | None, **keywords: Any) -> LikelihoodSettings:
    """The settings of a call that takes them whole or as keywords; ValueError where both are given."""
    given = {name: value for name, value in keywords.items() if value is not None}
    if settings is not None and not isinstance(settings, LikelihoodSettings):
        raise InputTypeError(f"settings={shown(settings)}: give an sd.LikelihoodSettings, or its fields one by one")
    if settings is None:
        return LikelihoodSettings(**given)
    if given:
        raise InputError(
            f"settings= was given together with {', '.join(f'{name}=' for name in given)}: "
            "write dataclasses.replace(settings, ...), or leave settings= out"
        )
    return settings


def _check_kinds(s: LikelihoodSettings) -> None:
    """Refuse numbers, counts and flags of another type, and counts below one."""
    for name in ("rtol", "atol", "t0"):
        if getattr(s, name) is not None:
            number(name, getattr(s, name), "1e-5")
    for name in ("autograd", "fresh", "frozen"):
        if getattr(s, name) is not None:
            flag(name, getattr(s, name))
    if s.discrete is not None and not isinstance(s.discrete, Discrete):
        raise InputTypeError(f"discrete={shown(s.discrete)}: give sd.Discrete(levels, range)")
    for name, most in _MOST.items():
        if getattr(s, name) is not None and whole(name, getattr(s, name), 1) > most:
            raise InputError(f"{name}={getattr(s, name):.3g}: at most {most:,} are possible")


def _check_names(s: LikelihoodSettings) -> None:
    """Refuse unknown names, and settings that the method does not take."""
    choices: list[tuple[str | None, Any, str]] = [
        (s.preset, PRESETS, "preset"), (s.method, METHODS, "method"), (s.trace, TRACES, "trace"),
        (s.variance, VARIANCES, "variance"), (s.solver_error, ERRORS, "solver_error"),
        (s.gradient, GRADIENTS, "gradient"), (None if callable(s.prior) else s.prior, PRIORS, "prior"),
    ]  # fmt: skip
    for value, names, what in choices:
        if value is not None and not known(value, names):
            raise InputError(nearest(value, names, what))
    preset_method = PRESETS[s.preset]["method"] if s.preset is not None else None
    if preset_method and s.method not in (None, preset_method):
        raise InputError(f"method={s.method!r} with preset={s.preset!r}, which is of {preset_method!r}: leave one out")
    values, given = s.values(), s.given()
    method = values["method"]
    for name, value in given.items():
        if name not in DEFAULTS[method] and name not in ("method", "preset"):
            owners = " or ".join(repr(other) for other, defaults in DEFAULTS.items() if name in defaults)
            raise InputError(f"{name}={value!r} does not belong to method={method!r}: it is for {owners}")
    for name, names in (("end", ENDS), ("variable", VARIABLES)):
        if name in given and not known(given[name], names[method]):
            raise InputError(nearest(given[name], names[method], f"{name} of {method}"))
    if method == "two_pass" and not known(values["integrator"], integrate.PAIRS):
        raise InputError(
            f"integrator={shown(values['integrator'])}: two passes take one of {', '.join(integrate.PAIRS)}; "
            'write method="ode" for the ODE methods of torchdiffeq and scipy'
        )
    if method == "ode" and not known(values["integrator"], integrate.ODES):
        raise InputError(nearest(values["integrator"], integrate.ODES, "ODE method"))


def _check_numbers(s: LikelihoodSettings) -> None:
    """Refuse tolerances that are not positive."""
    values = s.values()
    if "rtol" in DEFAULTS[values["method"]] and not all(0 < values[key] < math.inf for key in ("rtol", "atol")):
        raise InputError(
            f"tolerances must be positive, given rtol={values['rtol']}, atol={values['atol']}: write one such as 1e-5"
        )


def _check_effects(s: LikelihoodSettings) -> None:
    """Refuse settings that another one leaves without effect."""
    values = s.values()
    method = values["method"]
    if s.probes is not None and values["trace"] == "exact":
        raise InputError(f"probes={s.probes} has no effect with trace='exact': leave one of them out")
    if method == "ode" and values["integrator"] in _FIXED_STEP:
        for name in ("rtol", "atol"):
            if name in s.given():
                fixed = f"{values['integrator']}, whose steps are fixed"
                raise InputError(f"{name}={s.given()[name]} has no effect with {fixed}")
        if s.solver_error == "measure":
            fixed = f"the steps of {values['integrator']} are fixed"
            raise InputError(f"solver_error='measure' compares tolerances, and {fixed}")
    if method == "vlb" and s.solver_error == "measure":
        raise InputError("solver_error='measure': the chain of method='vlb' has no solver error: leave it out")
    if s.discrete is not None and values["end"] not in LEVEL_ENDS:
        raise InputError(
            f"discrete={s.discrete} makes log p a probability of levels, but end={values['end']!r} gives a density: "
            'write end="noised", or a bound with end="data"'
        )
