"""The inverse of a falling function, for many values at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Nodes of (0, 1), dense at both ends, where a log-SNR runs to infinity like a logarithm.
_LOGITS = np.linspace(-36.0, 36.0, 577)
_NODES = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS)), [1.0]])
_EIGHT, _DIAGONAL = np.arange(8), np.eye(8)
# A difference quotient over this share of the distance to the nearer end, on both sides, is exact to about 1e-8; where
# the two sides differ by more than this share of it, as beside a kink, it is not used.
_DELTA, _STRAIGHT = 1e-6, 1e-3
# Newton's step after one that is this small, relative to t, would be below the rounding of t.
_LAST = 1e-8


def falling_root(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray, end: float) -> np.ndarray:
    """The t in [0, end] where the falling `function`(t) = value, for `values` of any shape, to float64 accuracy.

    Values beyond the ends give the ends. A bracket is looked up in a table and a first guess interpolated there over
    log(t/(end - t)); then Newton's steps are taken with difference quotients, and the bracket is halved where a step
    leaves it or the function has a kink.
    """
    target = np.ravel(np.asarray(values, dtype=np.float64))
    with np.errstate(all="ignore"):
        table = function(_NODES * end)
        above = np.searchsorted(-table, -target).clip(1, len(table) - 1)
        low, high = _NODES[above - 1] * end, _NODES[above] * end
        t = _interpolated(table, above, target) * end
        outside = ~((t >= low) & (t <= high))
        if outside.any():
            share = (table[above - 1] - target) / (table[above - 1] - table[above])
            share = np.where((share >= 0) & (share <= 1), share, 0.5)
            t = np.where(outside, low + share * (high - low), t)
        t = _newton(function, target, t, low, high, end)
        t = np.where(target >= table[0], 0.0, np.where(target <= table[-1], end, t))
    return t.reshape(np.shape(values))


def _interpolated(table: np.ndarray, above: np.ndarray, target: np.ndarray) -> np.ndarray:
    """t / end at the target values by the polynomial through the eight nearest nodes; nan at a node or where flat."""
    near = (above[:, None] - 4).clip(1, len(_LOGITS) - 7) + _EIGHT
    at = table[near]
    apart = at[:, :, None] - at[:, None, :] + _DIAGONAL
    weights = 1 / (apart.prod(axis=2) * (target[:, None] - at))
    logit = (weights * _LOGITS[near - 1]).sum(axis=1) / weights.sum(axis=1)
    return 1 / (1 + np.exp(-logit))


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
        at, after, before = function(np.concatenate([t, t + delta, t - delta])).reshape(3, n)
        error, fall = at - target, before - after
        step = 2 * error * delta / fall
        straight = np.abs(before - 2 * at + after) <= _STRAIGHT * fall
        last = straight & (np.abs(step) <= _LAST * t)
        if last.all():
            return (t + step).clip(low, high)
        low, high = np.where(error > 0, t, low), np.where(error > 0, high, t)
        newton = np.where(last, (t + step).clip(low, high), t + step)
        settled = last | (error == 0) | (high - low <= np.spacing(high))
        trusted = straight & (newton >= low) & (newton <= high)
        t = np.where(error == 0, t, np.where(trusted, newton, (low + high) / 2))
        if settled.all():
            return t
    return t
