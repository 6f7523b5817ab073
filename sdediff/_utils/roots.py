"""The inverse of a falling function, for many values at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Nodes of (0, 1), dense at both ends, where a log-SNR runs to infinity like a logarithm.
_LOGITS = np.linspace(-36.0, 36.0, 145)
_NODES = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS)), [1.0]])
# A difference quotient over this share of the distance to the nearer end is exact to about 1e-9.
_DELTA = 1e-6


def falling_root(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, end: float) -> np.ndarray:
    """The t in [0, end] where the falling `function`(t) = value, for `values` of any shape, to float64 accuracy.

    Values beyond the ends give the ends. A bracket is looked up in a table, then Newton's steps are taken with
    difference quotients, and a bisection wherever one leaves its bracket.
    """
    target = np.ravel(np.asarray(values, dtype=np.float64))
    nodes = _NODES * end
    with np.errstate(all="ignore"):
        table = function(nodes)
        above = np.clip(np.searchsorted(-table, -target), 1, len(nodes) - 1)
        low, high = nodes[above - 1], nodes[above]
        share = (table[above - 1] - target) / (table[above - 1] - table[above])
        t = np.where((share >= 0) & (share <= 1), low + share * (high - low), (low + high) / 2)
        t = _newton(function, target, t, low, high, end)
        t = np.where(target >= table[0], 0.0, np.where(target <= table[-1], end, t))
    return t.reshape(np.shape(values))


def _newton(
    function: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    t: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    end: float,
) -> np.ndarray:
    n = len(target)
    for _ in range(100):
        delta = _DELTA * np.minimum(t, end - t)
        both = function(np.concatenate([t, t + delta]))
        error = both[:n] - target
        step = error * delta / (both[:n] - both[n:])
        low, high = np.where(error > 0, t, low), np.where(error > 0, high, t)
        newton = t + step
        inside = (newton >= low) & (newton <= high)
        # The step after one that is this small would be below the rounding of t.
        if bool(((np.abs(step) <= 1e-8 * t) & inside | (error == 0) | (high - low <= np.spacing(high))).all()):
            return np.where(inside, newton, t)
        t = np.where(error == 0, t, np.where(inside, newton, (low + high) / 2))
    return t
