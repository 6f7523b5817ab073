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


def angle(lam: Any, scale: Any) -> Any:
    """atan(kappa/scale), kappa = e^-lam."""
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
        lambda t, s, p: _w(s, p) * (angle(s.lam, p) - angle(t.lam, p)),
        lambda lam, s, p: _w(s, p) / -(p * np.exp(lam) + np.exp(-lam) / p),
    ),
}


# Where the polynomial lives: u(lam), given the scale of the angle. "t" is the process's own time.
VARIABLES: dict[str, Callable[[Any, float], Any]] = {
    "lam": lambda lam, scale: lam,
    "sigma": lambda lam, scale: np.exp(-lam),
    "rho": lambda lam, scale: np.exp(-lam / 7),
    "angle": angle,
}


class Rule(NamedTuple):
    """How a step weighs outputs: the basis; the polynomial's variable, with the angle's scale in it and the process's
    inverse for the variable "t"; how two and three points are weighted (`Weights.of`)."""

    basis: str
    variable: str = "lam"
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"
    time_at: Callable[[np.ndarray], np.ndarray] | None = None


class Outputs:
    """The outputs at the levels of a run, by their places in a variable.

    lam, places: (levels, 1). Steps are named by the levels `start` (steps,) that they begin at. A step's outputs come
    newest first, the first one newest[i] levels after the start: 0 for a predictor, 1 for a corrector.
    """

    def __init__(self, levels: Sequence[Level], lam: np.ndarray, variable: str, scale: float) -> None:
        self.lam, self.variable, self.scale = lam, variable, scale
        if variable == "t":
            self.places = np.array([v.time for v in levels])[:, None]
        else:
            self.places = VARIABLES[variable](self.lam, scale)

    def points(
        self, start: np.ndarray, newest: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Through how many outputs a polynomial passes (steps,), where they lie in units of the step, and which of them
        are used, (J, steps, 1)."""
        if self.lam[0, 0] == -math.inf:  # where alpha = 0, and so is sigma/alpha
            if self.variable not in ("angle", "t"):
                counts = np.minimum(counts, np.maximum(start + newest, 1))
            counts = np.where(start == 0, 1, counts)
        number, origin = np.arange(max(2, int(counts.max())))[:, None], self.places[start]
        at = (self.places[np.maximum(start + newest - number, 0)] - origin) / (self.places[start + 1] - origin)
        return counts, at, (number < counts)[..., None]


class Weights:
    """Weights of the steps between neighbouring levels under one rule.

    parameter: the basis's, one a step or one for all, (steps or 1, C) with C of them side by side. transfer: the factor
    of x in every step, (steps, C).
    """

    def __init__(self, levels: Sequence[Level], rule: Rule, parameter: np.ndarray) -> None:
        self._rule, self._basis = rule, BASES[rule.basis]
        values = list(map(attrgetter("alpha", "sigma", "lam"), levels))
        self._alpha, self._sigma, self._lam = np.array(values).T[..., None]
        self._parameter, self._outputs = parameter, Outputs(levels, self._lam, rule.variable, rule.scale)
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
        rule, total = self._rule, self._total[start]
        counts, at, used = self._outputs.points(start, newest, counts)
        moments = np.zeros((len(at), *total.shape))
        moments[0] = total
        if len(at) > 2 or rule.second == "exact":
            self._integrate(start, moments)
        # The published rules differ from the exact one in what they take for a moment.
        if rule.second != "exact":
            two = counts == 2
            moments[1, two] = (total if rule.second == "bh2" else self._kernel_times_h(start))[two] / 2
        if rule.third != "exact" and len(at) > 2:
            three = counts == 3
            if rule.third == "half":
                moments[2, three] *= 0.5
            else:
                moments[2, three] += at[1, three] * moments[1, three]
        return np.swapaxes(vandermonde(at, moments, used), 0, 1)

    def _kernel_times_h(self, start: np.ndarray) -> np.ndarray:
        """The integral of a kernel that is that of the step's end."""
        end = self.columns(start + 1)
        return self._basis.kernel(end.lam, end, self._parameters(start)) * (end.lam - self._lam[start])

    def _integrate(self, start: np.ndarray, moments: np.ndarray) -> None:
        """Set moments[k] = int K u^k dlam over every step for k > 0, u from 0 to 1 along it."""
        t, s, rule, places = self._lam[start], start + 1, self._rule, self._outputs.places
        half, origin, end = (self._lam[s] - t) / 2, places[start], self.columns(s[:, None])
        lam = t + half * (_NODES + 1)
        u = VARIABLES[rule.variable](lam, rule.scale) if rule.time_at is None else rule.time_at(lam)
        u = ((u - origin) / (places[s] - origin))[:, None]
        kernel = self._basis.kernel(lam[:, None], end, self._parameters(start)[..., None]) * (half[..., None] * _GAUSS)
        for k in range(1, len(moments)):
            kernel = kernel * u
            moments[k] = kernel.sum(axis=2)


def vandermonde(at: np.ndarray, moments: np.ndarray, used: np.ndarray) -> np.ndarray:
    """w with sum_j w_j at_j^k = moments_k over the points that are used, else 0. All arrays (J, ...), at_0 <= 1.

    Newton's form of the polynomial first, then its values at the points. Bjorck and Pereyra 1970.
    """
    most = len(at)
    # Points that are not used differ from all others, and polynomials of their degree are left out; one output alone
    # has the whole integral, wherever it lies.
    at = np.where(used & used[1], at, 2.0 + np.arange(most)[:, None, None])
    w = moments.copy()
    for k in range(most - 1):
        w[k + 1 :] -= at[k] * w[k:-1]
    w = np.where(used, w, 0.0)
    for k in range(most - 2, -1, -1):
        w[k + 1 :] /= at[k + 1 :] - at[: most - 1 - k]
        w[k:-1] -= w[k + 1 :]
    return w


def used_of(looked_at: Any) -> list[int]:
    """How many of the last outputs each step takes, by whether it looks at one (steps, J), or by their weights."""
    counts: list[int] = ((looked_at != 0) * np.arange(1, looked_at.shape[1] + 1)).max(axis=1).tolist()
    return counts
