"""The error of the quadrature, estimated from neighbouring panels, and the panels that it says to split."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sdediff.likelihood.panels import Panels

# The factor of q1/q2 that turns the indicator into the error to refine by.
_REFINE = 2.0
# The factor of the difference to the integral in u that bounds the error of a singular integrand.
_CURVED = 2.0
# The most of the ratio of a singular error to its indicator, and towards pi/2, where a smooth integrand would be
# mistaken for one: there only data much wider than the scale are singular.
_MOST_RATIO, _MOST_RATIO_AT_NOISE = 2.5, 1.0
# An integrand is taken for singular, and any ratio for its error, where its two indicators are to one another as those
# of a singular one, up to this factor: of narrow Gaussians .95 to 1.05, of mixtures 2 to 20.
_ALIKE = 1.7


class Indicator(NamedTuple):
    """Of every pair of neighbouring panels: its sample, its first panel, and its indicator (m,).

    singular (m,): the error were the integrand a multiple of 1/(sin phi cos phi), as where data are narrow, to refine
    by; bounded (m,): the same to report, from above where the integrand behaves like one. q1, q2 (b,): the
    roots of the sum of squares over each sample, of e1 and of that of lower order.
    """

    row: np.ndarray
    first: np.ndarray
    e1: np.ndarray
    singular: np.ndarray
    bounded: np.ndarray
    q1: np.ndarray
    q2: np.ndarray

    def errors(self) -> np.ndarray:
        """The error of each pair (m,): e1 times the ratio q1/q2, or that of a singular integrand if it is larger.

        Where the indicators fall with the order, the error is smaller than both.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.minimum(1.0, np.where(self.q2 > 0, _REFINE * self.q1 / self.q2, 1.0))
        return np.maximum(self.singular, np.abs(self.e1) * share[self.row])

    def total(self, errors: np.ndarray) -> np.ndarray:
        """The root of the sum of squares of the pairs' errors, (b,); NaN without pairs."""
        return np.where(np.isnan(self.q1), np.nan, np.sqrt(np.bincount(self.row, errors**2, len(self.q1))))

    def flags(self, panels: Panels, tolerance: float) -> np.ndarray:
        """The panels (n,) to split, until no sample's error exceeds the tolerance."""
        errors = self.errors()
        active = self.total(errors) > tolerance
        bar = tolerance**2 / (2 * np.maximum(np.bincount(self.row, minlength=len(active)), 1))
        worst = np.zeros(len(active))
        np.maximum.at(worst, self.row, errors)
        pairs = active[self.row] & ((errors**2 > bar[self.row]) | (errors >= worst[self.row]))
        flagged = np.zeros(len(panels), dtype=bool)
        width = _widths(panels, self.first)
        for side in (0, 1):
            mine, other = width[:, side], width[:, 1 - side]
            flagged[self.first[pairs & (mine >= other / 2)] + side] = True
        return panels.may_split(flagged)


def indicator(panels: Panels, integrand: np.ndarray, size: int) -> Indicator:
    """The indicators of an integrand (n, q) at the panels' nodes, for `size` samples.

    Over two neighbouring panels the sums of Gauss are compared with the integral of the polynomial through all nodes
    but the middle one, or both in the middle. A pair with a panel in u = log tan(phi) is compared in u.
    Where data are narrow the integrand is singular in phi and smooth in u: the error is that of the singular function
    that has this indicator, or the difference to the integral in u where that is less.
    """
    first, q = np.flatnonzero(panels.row[1:] == panels.row[:-1]), panels.phi.shape[1]
    e1, e2, singular, bounded = np.zeros((4, len(first)))
    bent = panels.over_log[first] | panels.over_log[first + 1]
    for over_log in (False, True):
        pairs = np.flatnonzero(bent == over_log)
        if len(pairs):
            rule = _rule(panels, integrand, first[pairs], over_log)
            e1[pairs] = _residual(rule, (q,))
            e2[pairs] = _residual(rule, (q - 1, q)) if q > 1 else e1[pairs]
            if not over_log:
                curved = _rule(panels, integrand, first[pairs], True)
                ratio, decay = _singular(panels, rule, first[pairs])
                most = _CURVED * np.abs(_residual(curved, ()))
                singular[pairs] = np.minimum(np.abs(e1[pairs]) * np.minimum(ratio, _MOST_RATIO), most)
                alike = np.abs(e1[pairs]) * _ALIKE >= np.abs(e2[pairs]) * decay
                alike &= np.abs(e1[pairs]) <= np.abs(e2[pairs]) * decay * _ALIKE
                bounded[pairs] = np.where(alike, np.minimum(np.abs(e1[pairs]) * ratio, most), singular[pairs])
    row = panels.row[first]
    q1, q2 = (np.sqrt(np.bincount(row, e**2, size)) for e in (e1, e2))
    pairs = np.bincount(row, minlength=size)
    return Indicator(
        row, first, e1, singular, bounded, np.where(pairs > 0, q1, np.nan), np.where(pairs > 0, q2, np.nan)
    )


class _Rule(NamedTuple):
    """Of pairs of panels (m, 2q): nodes, weights and values of Gauss's sums, and points and weights of the integral."""

    z: np.ndarray
    weight: np.ndarray
    values: np.ndarray
    points: np.ndarray
    weights: np.ndarray


def _rule(panels: Panels, integrand: np.ndarray, first: np.ndarray, over_log: bool) -> _Rule:
    """The pairs' sums and integral in phi, or else in u."""
    sides = (first, first + 1)
    phi, weight, values = (np.concatenate([v[k] for k in sides], 1) for v in (panels.phi, panels.weight, integrand))
    if not over_log:
        return _Rule(phi, weight, values, phi, weight)
    bend = np.sin(phi) * np.cos(phi)
    nodes, weights = np.polynomial.legendre.leggauss(panels.phi.shape[1])
    low, high = (v[:, None] for v in panels.log_ends)
    points = np.concatenate([low[k] + (nodes + 1) / 2 * (high - low)[k] for k in sides], 1)
    lengths = np.concatenate([weights / 2 * (high - low)[k] for k in sides], 1)
    return _Rule(np.log(np.tan(phi)), weight / bend, values * bend, points, lengths)


def _residual(rule: _Rule, out: tuple[int, ...]) -> np.ndarray:
    """The sums over the nodes less the integral of the polynomial through all nodes but those of `out`, (m,)."""
    rest = [k for k in range(rule.z.shape[1]) if k not in out]
    smooth = integral(rule.z[:, rest], rule.values[:, rest], rule.points, rule.weights)
    return np.asarray((rule.weight * rule.values).sum(1) - smooth)


def integral(z: np.ndarray, values: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The integral (m,), by points and weights (m, p), of the polynomial through values at nodes z (m, k)."""
    scale, own = np.abs(z[:, -1:] - z[:, :1]), np.eye(z.shape[1], dtype=bool)
    lagrange = values / ((z[:, :, None] - z[:, None, :]) / scale[:, :, None] + own).prod(2)
    total = np.zeros(len(z))
    for point in range(points.shape[1]):
        away = (points[:, point, None] - z) / scale
        # Row b of the products leaves out the factor of b, whose place the identity holds.
        others = np.where(own, 1.0, away[:, None, :])
        total = total + weights[:, point] * (others.prod(2) * lagrange).sum(1)
    return total


def _singular(panels: Panels, rule: _Rule, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of 1/(sin phi cos phi), du/dphi for u = log tan(phi): the error of Gauss's sums over e1, and e1 over e2, (m,)."""
    q = rule.z.shape[1] // 2
    own = rule._replace(values=1 / (np.sin(rule.z) * np.cos(rule.z)))
    low, high = panels.log_ends
    length = high[first + 1] - low[first]
    error = (rule.weight * own.values).sum(1) - length
    e1, e2 = _residual(own, (q,)), _residual(own, (q - 1, q)) if q > 1 else _residual(own, (q,))
    # Where both are rounding, neither says anything.
    known = np.abs(e1) > 1e-10 * np.abs(length)
    ratio = np.where(known, np.abs(error / np.where(known, e1, 1.0)), 0.0)
    at_noise = panels.phi[first + 1, 0] > math.pi / 4
    decay = np.where(known, np.abs(e1 / np.where(known, e2, 1.0)), 0.0)
    return np.where(at_noise, np.minimum(_MOST_RATIO_AT_NOISE, ratio), ratio), decay


def _widths(panels: Panels, first: np.ndarray) -> np.ndarray:
    """The widths (m, 2) of both panels of each pair, in the pair's variable."""
    low, high = panels.log_ends
    bent = panels.over_log[first] | panels.over_log[first + 1]
    sides = [np.where(bent, (high - low)[k], (panels.high - panels.low)[k]) for k in (first, first + 1)]
    return np.abs(np.stack(sides, 1))
