"""The error of the quadrature that is reported: from above, by the values at the nodes of neighbouring panels."""

from __future__ import annotations

import numpy as np

from sdediff.likelihood.panels import Panels
from sdediff.likelihood.quadrature import integral

# By how much the error may exceed the difference to an integral of higher order, where few steps hide a bend.
_REPORT = 6.0
# The nodes of the polynomial, as a multiple of those of a panel: fewer say nothing of Gauss's error, which is exact to
# degree 2q - 1, and the farther ones make a rough integrand look worse than it is.
_NODES = 2.5


def quadrature_error(panels: Panels, integrand: np.ndarray, size: int) -> np.ndarray:
    """The error (b,) of Gauss's sums of an integrand (n, q) at the panels' nodes, for `size` samples; NaN without any.

    Each panel's sum is compared with the integral over it of the polynomial through the nearest nodes, its own and
    those of its neighbours, in u = log tan(phi) where one of them has its nodes there. The differences add without
    their signs: over few panels they are not independent.
    """
    row, count = panels.row, np.bincount(panels.row, minlength=size)
    differences = np.zeros(len(row))
    begin = np.searchsorted(row, row)
    first = np.clip(np.arange(len(row)) - 1, begin, begin + np.maximum(count[row] - 3, 0))
    wide = np.flatnonzero(count[row] >= 3)
    three = first[wide, None] + np.arange(3)
    bent = panels.over_log[three].any(1)
    for over_log in (False, True):
        which = bent == over_log
        if which.any():
            differences[wide[which]] = _differences(panels, integrand, wide[which], three[which], over_log)
    total = _REPORT * np.bincount(row, np.abs(differences), size)
    return np.where(count >= 3, total, np.nan)


def _differences(
    panels: Panels, integrand: np.ndarray, own: np.ndarray, three: np.ndarray, over_log: bool
) -> np.ndarray:
    """Gauss's sums over the panels `own` (m,) less the integrals of the polynomials, by the panels `three` (m, 3)."""
    q = panels.phi.shape[1]
    used = min(3 * q, max(2 * q + 1, int(_NODES * q)))
    z, values = (v[three].reshape(len(own), -1) for v in (panels.phi, integrand))
    low, high = panels.low[own], panels.high[own]
    if over_log:
        values = values * np.sin(z) * np.cos(z)
        z, low, high = (np.log(np.tan(v)) for v in (z, low, high))
    middle, half = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    nearest = np.sort(np.argsort(np.abs(z - middle), axis=1, kind="stable")[:, :used], axis=1)
    nodes, weights = np.polynomial.legendre.leggauss((used + 1) // 2)
    smooth = integral(
        np.take_along_axis(z, nearest, 1), np.take_along_axis(values, nearest, 1), middle + half * nodes, half * weights
    )
    return np.asarray((panels.weight[own] * integrand[own]).sum(1) - smooth)
