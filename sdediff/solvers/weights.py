"""Weights of exponential multistep methods: integrals of a kernel times polynomials through past outputs.

Over a step t -> s the solution of the reverse process is, in every basis P of the network's output,

    x_s = c x_t + int K(lam) P(lam) dlam + noise.

Where P is the polynomial through past outputs in some variable u, the integral is sum_j w_j P_j. In all of
it K is the derivative of a function known in closed form, so that the weights sum up to an exact `total`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sdediff.levels import Point
from sdediff.sde import LinearSDE

_NODES, _GAUSS = np.polynomial.legendre.leggauss(16)
_LOG10 = math.log(10.0)


class Basis(NamedTuple):
    """How an output moves x: c and the kernel's integral over a step, the kernel at many lam.

    The parameter p is eta^2 for x0, the scale (a float or one a dimension) for F, unused for eps.
    """

    transfer: Callable[[Point, Point, Any], Any]
    total: Callable[[Point, Point, Any], Any]
    kernel: Callable[[np.ndarray, Point, Any], np.ndarray]


def _w(p: Point, scale: Any) -> Any:
    return np.hypot(p.alpha * scale, p.sigma)


def _angle(lam: Any, scale: Any) -> Any:
    return np.arctan(np.exp(-np.asarray(lam)) / scale)


def _er(lam: Any) -> Any:
    """log of ER-SDE's noise scaler over kappa, log(e^(kappa^0.3) + 10), and its slope in lam. Cui et al. 2023."""
    power = np.exp(-0.3 * np.asarray(lam))
    return np.logaddexp(power, _LOG10), -0.3 * power / (1 + np.exp(_LOG10 - power))


def _fall(t: Point, s: Point) -> float:
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


@functools.lru_cache(maxsize=1 << 12)
def times_between(sde: LinearSDE, t: float, s: float) -> tuple[float, ...]:
    """The process's times at the quadrature's nodes between two lam."""
    return tuple(sde.t_of_lam(_nodes(t, s)).tolist())


def _nodes(t: float, s: float) -> np.ndarray:
    return t + (s - t) * (_NODES + 1) / 2


class Rule(NamedTuple):
    """The polynomial's variable and the angle's scale in it; how two and three points are weighted (`weigh`)."""

    variable: str = "lam"
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"


@functools.lru_cache(maxsize=1 << 14)
def weights(
    t: Point,
    s: Point,
    past: tuple[float, ...],
    basis: str,
    parameter: float,
    rule: Rule,
    between: tuple[float, ...] = (),
) -> tuple[float, list[float]]:
    """c and w_j for outputs at the lam, or for the variable "t" the times, `past`, newest first.

    between: the times of the nodes, for the variable "t". Kept, since one grid serves many batches: a run's levels
    are new objects, so what is looked up by is kept small.
    """
    w = solve(t, s, past, basis, parameter, rule, between)
    return float(BASES[basis].transfer(t, s, parameter)), w.tolist()


def solve(
    t: Point, s: Point, past: Sequence[float], basis: str, parameter: Any, rule: Rule, between: Sequence[float] = ()
) -> np.ndarray:
    """w_j (J,), or (J, D) for parameters (D, 1)."""
    found, h = BASES[basis], s.lam - t.lam
    total = np.squeeze(found.total(t, s, parameter), -1) if np.ndim(parameter) else found.total(t, s, parameter)
    if len(past) == 1:
        return np.array([total])
    lam = _nodes(t.lam, s.lam)
    if rule.variable == "t":
        u, at, start, stop = np.array(between), past, t.t, s.t
    else:
        place, scale = VARIABLES[rule.variable], rule.scale
        u, at = place(lam, scale), [float(place(p, scale)) for p in past]
        start, stop = float(place(t.lam, scale)), float(place(s.lam, scale))
    kernel = found.kernel(lam, s, parameter) * (h / 2)
    end = found.kernel(np.array([s.lam]), s, parameter)[..., 0] * h
    return weigh(kernel, u - start, [v - start for v in at], total, rule, stop - start, end)


def weigh(
    kernel: np.ndarray,
    u: np.ndarray,
    at: Sequence[float],
    total: Any,
    rule: Rule,
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
    if len(at) == 2 and rule.second != "exact":
        here = 0 if at[0] == 0 else 1  # a corrector's newest output comes first
        other = (total if rule.second == "bh2" else end) / 2 * step / at[1 - here]
        return np.array([other, total - other] if here else [total - other, other])
    basis = np.ones((len(at), len(u)))
    for j, mine in enumerate(at):
        for i, theirs in enumerate(at):
            if i != j:
                basis[j] *= (u - theirs) / (mine - theirs)
    w = basis @ measure.T
    if len(at) == 3 and rule.third != "exact":
        lead = [1 / math.prod(a - b for i, b in enumerate(at) if i != j) for j, a in enumerate(at)]
        first, curved = float(measure @ u), float(measure @ u**2)
        w += np.array(lead) * (-curved / 2 if rule.third == "half" else at[1] * first)
    w[0] += total - w.sum(axis=0)
    return w
