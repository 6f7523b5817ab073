"""Weights of exponential multistep methods: integrals of a kernel times polynomials through past outputs.

Over a step t -> s the solution of the reverse process is, in every basis P of the network's output,

    x_s = c x_t + int K(lam) P(lam) dlam + noise.

Where P is the polynomial through past outputs in some variable u, the integral is sum_j w_j P_j. In all of
it K is the derivative of a function known in closed form, so that the weights sum up to an exact `total`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.solvers.moves import Move

Times = Callable[[Any], Tensor]
_NODES, _GAUSS = np.polynomial.legendre.leggauss(16)
_LOG10 = math.log(10.0)


class Basis(NamedTuple):
    """How an output moves x: c and the kernel's integral over a step, the kernel at many lam.

    The parameter p is eta^2 for x0, the scale (a float or one a dimension) for F, unused for eps.
    """

    transfer: Callable[[Level, Level, Any], Any]
    total: Callable[[Level, Level, Any], Any]
    kernel: Callable[[np.ndarray, Level, Any], np.ndarray]


def _w(p: Level, scale: Any) -> Any:
    return np.hypot(p.alpha * scale, p.sigma)


def whitened(t: Level, scale: Any) -> dict[str, Any]:
    """F = cos(phi) eps - sin(phi) x0/scale, tan(phi) = sigma/(alpha scale), which is d(x/w)/dphi, by its weights."""
    w = _w(t, scale)
    return {"eps": t.alpha * scale / w, "x0": -t.sigma / (w * scale)}


def _angle(lam: Any, scale: Any) -> Any:
    return np.arctan(np.exp(-np.asarray(lam)) / scale)


def _er(lam: Any) -> Any:
    """log of ER-SDE's noise scaler over kappa, log(e^(kappa^0.3) + 10), and its slope in lam. Cui et al. 2023."""
    power = np.exp(-0.3 * np.asarray(lam))
    return np.logaddexp(power, _LOG10), -0.3 * power / (1 + np.exp(_LOG10 - power))


def _fall(t: Level, s: Level) -> float:
    return float(_er(s.lam)[0] - _er(t.lam)[0])


# x0: x/alpha shrinks by h(kappa_s)/h(kappa_t), h(kappa) = kappa^(1 + eta^2), or ER-SDE's h.
BASES: dict[str, Basis] = {
    "x0": Basis(
        lambda t, s, p: s.sigma / t.sigma * (math.exp(p * (t.lam - s.lam)) if p else 1.0),
        lambda t, s, p: -s.alpha * math.expm1((1 + p) * (t.lam - s.lam)),
        lambda lam, s, p: s.alpha * (1 + p) * np.exp((1 + p) * (lam - s.lam)),
    ),
    "er": Basis(
        lambda t, s, p: s.sigma / t.sigma * math.exp(_fall(t, s)),
        lambda t, s, p: -s.alpha * math.expm1(t.lam - s.lam + _fall(t, s)),
        lambda lam, s, p: s.alpha * (1 - _er(lam)[1]) * np.exp(_er(s.lam)[0] - _er(lam)[0] + lam - s.lam),
    ),
    "eps": Basis(
        lambda t, s, p: s.alpha / t.alpha,
        lambda t, s, p: -s.sigma * math.expm1(s.lam - t.lam),
        lambda lam, s, p: -s.alpha * np.exp(-lam),
    ),
    "F": Basis(
        lambda t, s, p: _w(s, p) / _w(t, p),
        lambda t, s, p: _w(s, p) * (_angle(s.lam, p) - _angle(t.lam, p)),
        lambda lam, s, p: _w(s, p) / -(p * np.exp(lam) + np.exp(-lam) / p),
    ),
}


# Where the polynomial lives: u(lam), given the scale of the angle. "t" is the process's own time.
VARIABLES: dict[str, Callable[[Any, float], Any]] = {
    "lam": lambda lam, scale: lam,
    "sigma": lambda lam, scale: np.exp(-lam),
    "rho": lambda lam, scale: np.exp(-lam / 7),
    "angle": _angle,
}


@dataclass(frozen=True, eq=False)
class Rule:
    """How a step weighs outputs: the basis and its parameter; the polynomial's variable, with the angle's scale in it;
    how two and three points are weighted (`weigh`)."""

    basis: str
    parameter: Any
    variable: str = "lam"
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"


# The same rule for the same numbers, so that it is looked up by what it is.
rule = functools.lru_cache(maxsize=256)(Rule)


def weights(t: Level, s: Level, past: Sequence[Level], used: Rule, t_of_lam: Times | None = None) -> Move:
    """The move over outputs at the levels `past`, newest first. t_of_lam: the process's, for the variable "t"."""
    return Move(float(BASES[used.basis].transfer(t, s, used.parameter)), solve(t, s, past, used, t_of_lam).tolist())


def solve(t: Level, s: Level, past: Sequence[Level], used: Rule, t_of_lam: Times | None = None) -> np.ndarray:
    """w_j (J,), or (J, D) for parameters (D, 1); 0 for outputs that no polynomial can pass through."""
    found, parameter, h = BASES[used.basis], used.parameter, s.lam - t.lam
    total = np.squeeze(found.total(t, s, parameter), -1) if np.ndim(parameter) else found.total(t, s, parameter)
    near = _reached(t, past, used.variable)
    w = np.zeros((len(past), *np.shape(total)))
    if sum(near) == 1:
        w[near.index(True)] = total
        return w
    lam = t.lam + h * (_NODES + 1) / 2
    u, (start, stop, *at) = _placed(used, lam, [t, s, *itertools.compress(past, near)], t_of_lam)
    kernel = found.kernel(lam, s, parameter) * (h / 2)
    end = found.kernel(np.array([s.lam]), s, parameter)[..., 0] * h
    w[near] = weigh(kernel, u - start, [v - start for v in at], total, used, stop - start, end)
    return w


def _placed(
    used: Rule, lam: np.ndarray, row: Sequence[Level], t_of_lam: Times | None
) -> tuple[np.ndarray, list[float]]:
    """Many lam, and levels, in the polynomial's variable."""
    if t_of_lam is not None:
        return t_of_lam(lam).numpy(), [v.time for v in row]
    place = VARIABLES[used.variable]
    return place(lam, used.scale), [float(place(v.lam, used.scale)) for v in row]


def _reached(t: Level, past: Sequence[Level], variable: str) -> list[bool]:
    """Which outputs a polynomial can pass through: where alpha = 0, lam and sigma/alpha are infinite."""
    if past[-1].lam > -math.inf:
        return [True] * len(past)
    if t.lam == -math.inf:
        return [p is past[-1] for p in past]
    return [variable in ("angle", "t") or p.lam > -math.inf for p in past]


def weigh(
    kernel: np.ndarray,
    u: np.ndarray,
    at: Sequence[float],
    total: Any,
    used: Rule,
    step: float = 1.0,
    end: Any = 0.0,
) -> np.ndarray:
    """w_j (J,) or (J, D) for the kernel (nodes,) or (D, nodes) at u (nodes,), outputs at `at` (J), from u_t = 0.

    second: two points by the exact integral, or by half the total ("bh2": DPM-Solver's and UniPC's rule) or
    half of `end` = kernel(s) h ("bh1") for the slope. third: three points by the exact integral, with half
    the second derivative's ("half": DPM-Solver++ as published), or without the curvature in the slope
    ("er": ER-SDE as published); both are of order 2.
    """
    measure = kernel * _GAUSS
    if len(at) == 2 and used.second != "exact":
        here = 0 if at[0] == 0 else 1  # a corrector's newest output comes first
        other = (total if used.second == "bh2" else end) / 2 * step / at[1 - here]
        return np.array([other, total - other] if here else [total - other, other])
    basis = np.ones((len(at), len(u)))
    for j, mine in enumerate(at):
        for i, theirs in enumerate(at):
            if i != j:
                basis[j] *= (u - theirs) / (mine - theirs)
    w = basis @ measure.T
    if len(at) == 3 and used.third != "exact":
        lead = [1 / math.prod(a - b for i, b in enumerate(at) if i != j) for j, a in enumerate(at)]
        first, curved = float(measure @ u), float(measure @ u**2)
        w += np.array(lead) * (-curved / 2 if used.third == "half" else at[1] * first)
    w[0] += total - w.sum(axis=0)
    return w
