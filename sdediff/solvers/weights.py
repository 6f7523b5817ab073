"""Weights of exponential multistep methods: integrals of a kernel times polynomials through past outputs.

Over a step t -> s the solution of the reverse process is, in every basis P of the network's output,

    x_s = c x_t + int K(lam) P(lam) dlam + noise.

Where P is the polynomial through past outputs in some variable u, the integral is sum_j w_j P_j. In all of
it K is the derivative of a function known in closed form, so that the weights sum up to an exact `total`.
All steps of a run are computed together, with arrays (steps, parameters, nodes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sdediff.grids.levels import Level

_NODES, _GAUSS = np.polynomial.legendre.leggauss(16)
_LOG10 = math.log(10.0)


class Basis(NamedTuple):
    """How an output changes x: the factor of x and the kernel's integral over a step, the kernel at many lam.

    The parameter p is eta^2 for x0, the scale for F, unused for eps.
    """

    transfer: Callable[[Level, Level, Any], Any]
    total: Callable[[Level, Level, Any], Any]
    kernel: Callable[[np.ndarray, Level, Any], np.ndarray]


def _w(level: Level, scale: Any) -> Any:
    return np.hypot(level.alpha * scale, level.sigma)


def whitened(level: Level, scale: Any) -> tuple[Any, Any]:
    """F = cos(phi) eps - sin(phi) x0/scale, tan(phi) = sigma/(alpha scale), is d(x/w)/dphi: its weights of eps, x0."""
    w = _w(level, scale)
    return level.alpha * scale / w, -level.sigma / (w * scale)


def _angle(lam: Any, scale: Any) -> Any:
    return np.arctan(np.exp(-lam) / scale)


def _er(lam: Any) -> Any:
    """log of ER-SDE's noise scaler over kappa, log(e^(kappa^0.3) + 10), and its slope in lam. Cui et al. 2023."""
    power = np.exp(-0.3 * lam)
    return np.logaddexp(power, _LOG10), -0.3 * power / (1 + np.exp(_LOG10 - power))


def _fall(t: Level, s: Level) -> Any:
    return _er(s.lam)[0] - _er(t.lam)[0]


# x0: x/alpha shrinks by h(kappa_s)/h(kappa_t), h(kappa) = kappa^(1 + eta^2), or ER-SDE's h.
BASES: dict[str, Basis] = {
    "x0": Basis(
        lambda t, s, p: s.sigma / t.sigma * (np.exp(np.where(p > 0, p * (t.lam - s.lam), 0.0)) if p.any() else 1.0),
        lambda t, s, p: -s.alpha * np.expm1((1 + p) * (t.lam - s.lam)),
        lambda lam, s, p: s.alpha * (1 + p) * np.exp((1 + p) * (lam - s.lam)),
    ),
    "er": Basis(
        lambda t, s, p: s.sigma / t.sigma * np.exp(_fall(t, s)),
        lambda t, s, p: -s.alpha * np.expm1(t.lam - s.lam + _fall(t, s)),
        lambda lam, s, p: s.alpha * (1 - _er(lam)[1]) * np.exp(_er(s.lam)[0] - _er(lam)[0] + lam - s.lam),
    ),
    "eps": Basis(
        lambda t, s, p: s.alpha / t.alpha,
        lambda t, s, p: -s.sigma * np.expm1(s.lam - t.lam),
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


class Rule(NamedTuple):
    """How a step weighs outputs: the basis; the polynomial's variable, with the angle's scale in it and the process's
    inverse for the variable "t"; how two and three points are weighted (`Weights.of`)."""

    basis: str
    variable: str = "lam"
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"
    t_of_lam: Callable[[Any], Tensor] | None = None


class Weights:
    """Weights of the steps between neighbouring levels under one rule.

    parameter: the basis's, one a step or one for all, (steps or 1, C) with C of them side by side. transfer: the factor
    of x in every step, (steps, C).
    """

    def __init__(self, levels: Sequence[Level], rule: Rule, parameter: np.ndarray) -> None:
        self._rule, self._basis = rule, BASES[rule.basis]
        values = list(map(attrgetter("alpha", "sigma", "lam"), levels))
        self._alpha, self._sigma, self._lam = np.array(values).T[..., None]
        self._parameter = parameter
        if rule.variable == "t":
            self._places = np.array([v.time for v in levels])[:, None]
        else:
            self._places = VARIABLES[rule.variable](self._lam, rule.scale)
        t, s = self.columns(np.s_[:-1]), self.columns(np.s_[1:])
        self.transfer = self._basis.transfer(t, s, parameter)
        self._total = self._basis.total(t, s, parameter)

    def columns(self, index: Any) -> Level:
        """These levels as one of arrays (steps, 1)."""
        level = Level()
        level.alpha, level.sigma, level.lam = self._alpha[index], self._sigma[index], self._lam[index]
        return level

    def _parameters(self, start: np.ndarray) -> np.ndarray:
        return self._parameter if len(self._parameter) == 1 else self._parameter[start]

    def of(self, start: np.ndarray, newest: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """w (steps, J, C) of the steps that begin at the levels `start` (steps,), over counts[i] outputs each.

        Outputs come newest first, the first one newest[i] levels after the start: 0 for a predictor, 1 for a corrector.
        second: two points by the exact integral, or by half the total ("bh2": DPM-Solver's and UniPC's rule) or
        half of kernel(s) h ("bh1") for the slope. third: three points by the exact integral, with half the second
        derivative's ("half": DPM-Solver++ as published), or without the curvature in the slope ("er": ER-SDE as
        published); both are of order 2. Outputs that no polynomial can pass through have weight 0.
        """
        if self._lam[0, 0] == -math.inf:
            counts = self._reached(start, newest, counts)
        total = self._total[start]
        w = np.zeros((len(start), max(2, int(counts.max())), total.shape[1]))
        w[np.arange(len(start)), newest] = total
        exact = counts > 1
        if self._rule.second != "exact":
            exact, two = counts > 2, np.flatnonzero(counts == 2)
            if len(two):
                at = newest[two]
                w[two, 1 - at] = slope = self._slope(start[two], at, total[two])
                w[two, at] -= slope
        if exact.any():
            w[exact] = self._exact(start[exact], newest[exact], counts[exact], total[exact], w.shape[1])
        return w

    def _reached(self, start: np.ndarray, newest: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Through how many outputs a polynomial passes: where alpha = 0, lam and sigma/alpha are infinite."""
        if self._rule.variable not in ("angle", "t"):
            counts = np.minimum(counts, np.maximum(start + newest, 1))
        return np.where(start == 0, 1, counts)

    def _slope(self, start: np.ndarray, newest: np.ndarray, total: np.ndarray) -> np.ndarray:
        """The weight of the output beside the one at the start, by the rule `second`."""
        u, whole = self._places, total
        if self._rule.second == "bh1":
            end = self.columns(start + 1)
            whole = self._basis.kernel(end.lam, end, self._parameters(start)) * (end.lam - self._lam[start])
        other = start - 1 + 2 * newest
        return whole / 2 * ((u[start + 1] - u[start]) / (u[other] - u[start]))

    def _exact(
        self, start: np.ndarray, newest: np.ndarray, counts: np.ndarray, total: np.ndarray, most: int
    ) -> np.ndarray:
        """The weights with which the integral of every polynomial through counts[i] outputs is exact, (steps, most, C).

        One Vandermonde system a step: powers of u at the outputs against the kernel's moments, u in units of the step.
        """
        half = (self._lam[start + 1] - self._lam[start]) / 2
        lam = self._lam[start] + half * (_NODES + 1)
        rule, origin, end = self._rule, self._places[start], self.columns((start + 1)[:, None])
        u = VARIABLES[rule.variable](lam, rule.scale) if rule.t_of_lam is None else rule.t_of_lam(lam).detach().numpy()
        step = self._places[start + 1] - origin
        u = ((u - origin) / step)[:, None]
        kernel = self._basis.kernel(lam[:, None], end, self._parameters(start)[..., None]) * (half[..., None] * _GAUSS)
        moments = np.empty((most, *total.shape))
        moments[0] = total
        for k in range(1, most):
            kernel = kernel * u
            moments[k] = kernel.sum(axis=2)
        number = np.arange(most)[:, None]
        used = (number < counts)[..., None]
        at = (self._places[np.maximum(start + newest - number, 0)] - origin) / step
        if rule.third != "exact" and most > 2:
            three = counts == 3
            # The published rules differ from the exact one in what they take for the second moment.
            moments[2, three] *= 0.5 if rule.third == "half" else 1.0
            moments[2, three] += 0.0 if rule.third == "half" else at[1, three] * moments[1, three]
        return np.swapaxes(vandermonde(at, moments, used), 0, 1)


def vandermonde(at: np.ndarray, moments: np.ndarray, used: np.ndarray) -> np.ndarray:
    """w with sum_j w_j at_j^k = moments_k over the points that are used, else 0. All arrays (J, ...), at_0 <= 1.

    Newton's form of the polynomial first, then its values at the points. Bjorck and Pereyra 1970.
    """
    most = len(at)
    # Points that are not used differ from all others, and polynomials of their degree are left out.
    at = np.where(used, at, 2.0 + np.arange(most)[:, None, None])
    w = moments.copy()
    for k in range(most - 1):
        w[k + 1 :] -= at[k] * w[k:-1]
    w *= used
    for k in range(most - 2, -1, -1):
        w[k + 1 :] /= at[k + 1 :] - at[: most - 1 - k]
        w[k:-1] -= w[k + 1 :]
    return w
