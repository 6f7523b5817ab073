"""The error of the quadrature, estimated from neighbouring panels, and the panels that it says to split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdediff.likelihood.panels import Panels

# The factor of q1/q2 that turns the indicator into the error to refine by.
_REFINE = 2.0
# The factor in the error that is reported, over the nodes of a panel: the more there are, the higher the order of their
# sum above that of the indicator. And the most that it may be of q1.
_REPORT, _REPORT_MOST = 8.0, 1.5


class Indicator(NamedTuple):
    """Of every pair of neighbouring panels: its first panel and its indicator (m,).

    q1, q2 (b,): the roots of the sum of squares over each sample, of it and of that of lower order. nodes: of a panel.
    """

    first: np.ndarray
    e1: np.ndarray
    q1: np.ndarray
    q2: np.ndarray
    nodes: int

    def error(self, factor: float, most: float = 1.0) -> np.ndarray:
        """q1 min(most, factor q1/q2), (b,): where the indicators fall with the order, the error is smaller than both."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(self.q2 > 0, factor * self.q1 / self.q2, most)
        return self.q1 * np.minimum(most, share)

    @property
    def reported(self) -> np.ndarray:
        """The error of the quadrature (b,), from above."""
        return self.error(_REPORT / self.nodes, _REPORT_MOST)

    def flags(self, panels: Panels, tolerance: float) -> np.ndarray:
        """The panels (n,) to split, until no sample's error exceeds the tolerance."""
        error = self.error(_REFINE)
        row = panels.row[self.first]
        active = error > tolerance
        with np.errstate(divide="ignore", invalid="ignore"):
            bar = (self.q1 * tolerance / error) ** 2 / (2 * np.bincount(row, minlength=len(error)))
        worst = np.zeros(len(error))
        np.maximum.at(worst, row, self.e1**2)
        pairs = active[row] & ((self.e1**2 > bar[row]) | (self.e1**2 >= worst[row]))
        flagged = np.zeros(len(panels), dtype=bool)
        width = _widths(panels, self.first)
        for side in (0, 1):
            mine, other = width[:, side], width[:, 1 - side]
            flagged[self.first[pairs & (mine >= other / 2)] + side] = True
        return panels.may_split(flagged)


def indicator(panels: Panels, integrand: np.ndarray, size: int) -> Indicator:
    """The indicators of an integrand (n, q) at the panels' nodes, for `size` samples.

    Over two neighbouring panels the sums of Gauss are compared with the integral of the polynomial through all nodes but
    the middle one, or both in the middle. A pair with a panel in u = log tan(phi) is compared in u.
    """
    first, q = np.flatnonzero(panels.row[1:] == panels.row[:-1]), panels.phi.shape[1]
    e1, e2 = np.zeros((2, len(first)))
    bent = panels.over_log[first] | panels.over_log[first + 1]
    for over_log in (False, True):
        pairs = np.flatnonzero(bent == over_log)
        if len(pairs):
            rules = _rules(panels, integrand, first[pairs], over_log)
            e1[pairs] = _residual(*rules, (q,))
            e2[pairs] = _residual(*rules, (q - 1, q)) if q > 1 else e1[pairs]
    row = panels.row[first]
    q1, q2 = (np.sqrt(np.bincount(row, e**2, size)) for e in (e1, e2))
    pairs = np.bincount(row, minlength=size)
    return Indicator(first, e1, np.where(pairs > 0, q1, np.nan), np.where(pairs > 0, q2, np.nan), q)


def _rules(panels: Panels, integrand: np.ndarray, first: np.ndarray, over_log: bool) -> tuple[np.ndarray, ...]:
    """Of pairs of panels the nodes, weights and values (m, 2q), and Gauss's nodes and weights in phi, or else in u."""
    sides = (first, first + 1)
    phi, weight, values = (np.concatenate([v[k] for k in sides], 1) for v in (panels.phi, panels.weight, integrand))
    if not over_log:
        return phi, weight, values, phi, weight
    bend = np.sin(phi) * np.cos(phi)
    nodes, weights = np.polynomial.legendre.leggauss(panels.phi.shape[1])
    low, high = (v[:, None] for v in panels.log_ends)
    points = np.concatenate([low[k] + (nodes + 1) / 2 * (high - low)[k] for k in sides], 1)
    return np.log(np.tan(phi)), weight / bend, values * bend, points, np.concatenate([weights / 2 * (high - low)[k] for k in sides], 1)


def _residual(
    z: np.ndarray, weight: np.ndarray, values: np.ndarray, points: np.ndarray, weights: np.ndarray, out: tuple[int, ...]
) -> np.ndarray:
    """The sums over the nodes less the integral, by points and weights, of the polynomial without the nodes `out`, (m,)."""
    rest = [k for k in range(z.shape[1]) if k not in out]
    scale = np.abs(z[:, -1:] - z[:, :1])
    gaps = (z[:, rest, None] - z[:, None, rest]) / scale[:, :, None] + np.eye(len(rest))
    lagrange = values[:, rest] / gaps.prod(2)
    total = (weight * values).sum(1)
    for point in range(z.shape[1]):
        away = (points[:, point, None] - z[:, rest]) / scale
        # Row b of the products leaves out the factor of b, whose place the identity holds.
        others = np.where(np.eye(len(rest), dtype=bool), 1.0, away[:, None, :])
        total = total - weights[:, point] * (others.prod(2) * lagrange).sum(1)
    return total


def _widths(panels: Panels, first: np.ndarray) -> np.ndarray:
    """The widths (m, 2) of both panels of each pair, in the pair's variable."""
    low, high = panels.log_ends
    bent = panels.over_log[first] | panels.over_log[first + 1]
    sides = [np.where(bent, (high - low)[k], (panels.high - panels.low)[k]) for k in (first, first + 1)]
    return np.abs(np.stack(sides, 1))
