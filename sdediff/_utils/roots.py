"""The inverse of a falling function, for many values at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

# Nodes of (0, 1) at even steps of log(t/(1 - t)), dense at both ends, where a log-SNR runs to infinity as a logarithm.
_STEP = 0.125
_LOGITS = _STEP * np.arange(-288, 289)
_NODES = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS)), [1.0]])
# Values at eight neighbouring nodes, 3.5 steps before the middle to 3.5 after -> the coefficients of their polynomial
# in the number of steps from the middle, those of its slope and of half its second derivative.
_EIGHT = np.arange(8)
_VALUES = np.linalg.inv(np.vander(_EIGHT - 3.5, increasing=True)).T
_SLOPES = np.roll(_VALUES * _EIGHT, -1, axis=1)
_CURVES = np.roll(_SLOPES * _EIGHT, -1, axis=1) / 2
_COEFFICIENTS = np.stack([_VALUES, _SLOPES, _CURVES])
# Sixteen nodes around the middle, the weights of their polynomial in its barycentric form, and how near to that of
# eight it must be, in steps: both converge like powers of one number, so that it is then exact to about 1e-14.
_SIXTEEN = np.arange(16) - 7.5
_BARYCENTRIC = np.array([(-1.0) ** j * math.comb(15, j) for j in range(16)])
_AGREE = 1e-7
# A difference quotient over this share of the distance to the nearer end, on both sides, is exact to about 1e-8; where
# the two sides differ by more than this share of it, as beside a kink, it is not used.
_DELTA, _STRAIGHT = 1e-6, 1e-3
# Newton's step after one that is this small, relative to t, would be below the rounding of t.
_LAST = 1e-8


def falling_root(
    function: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray | Callable[[np.ndarray], np.ndarray],
    end: float,
    at: Sequence[float] = (),
    exact: bool = True,
) -> np.ndarray:
    """The t in [0, end] where the falling `function`(t) = value, for `values` of any shape, to float64 accuracy.

    values: may be a function of what `function` gives at the times `at`, which are evaluated with the table. Values
    beyond the ends give the ends. Where the function is smooth it is evaluated twice: in a table, whose
    interpolation gives t and the slope there, and at these t for one of Newton's steps. Else a bracket from the table
    is narrowed by Newton's steps with difference quotients, and halved where a step leaves it or at a kink.
    exact: False where interpolations of two orders that agree to 1e-8 will do, which spares the second evaluation; of
    an analytic function the higher one is then as exact.
    """
    with np.errstate(all="ignore"):
        table = function(np.concatenate([_NODES * end, at]))
        table, ends = table[: len(_NODES)], table[len(_NODES) :]
        values = np.asarray(values(ends) if callable(values) else values, dtype=np.float64)
        target = values.ravel()
        # The first node whose value is below the target, counted from the end, as the values fall.
        below = len(table) - table[::-1].searchsorted(target, "right")
        first, last = target >= table[0], target <= table[-1]
        share, slope, smooth, agree = _interpolated(table, below, target)
        t = share * end
        if not exact and ((smooth & agree) | first | last).all():
            t[last], t[first] = end, 0.0
            return t.reshape(values.shape)
        step = (target - function(t)) * (_STEP * t * (1 - share) / slope)
        if ((smooth & (np.abs(step) <= _LAST * t)) | first | last).all():
            t = np.minimum(t + step, end)
        else:
            below = np.minimum(np.maximum(below, 1), len(table) - 1)
            low, high = _NODES[below - 1] * end, _NODES[below] * end
            part = (table[below - 1] - target) / (table[below - 1] - table[below])
            part = np.where((part >= 0) & (part <= 1), part, 0.5)
            t = np.where(smooth & (t > low) & (t < high), t, low + part * (high - low))
            t = _newton(function, target, t, low, high, end)
        t[last], t[first] = end, 0.0
    return t.reshape(values.shape)


def _interpolated(table: np.ndarray, below: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """t / end at the target values, the slope there by steps, whether both are to be trusted, whether two orders agree.

    They are those of the polynomial through the eight nearest nodes, which does not tell them beyond these or beside a
    jump, corrected by the one through sixteen.
    """
    first = np.minimum(np.maximum(below - 4, 1), len(_LOGITS) - 7)
    at = table[first[:, None] + _EIGHT]
    # Chebyshev's step, of third order, from the straight line between the two nodes in the middle.
    line = at[:, 4] - at[:, 3]
    v = (target - at[:, 3]) / line - 0.5
    powers = np.ones(at.shape)
    powers[:, 1:] = v[:, None]
    value, slope, curve = (at @ _COEFFICIENTS * powers.cumprod(axis=1)).sum(axis=2)
    smooth = (np.abs(v) <= 0.5) & (np.abs(slope - line) <= 0.5 * np.abs(line))
    step = (target - value) / slope
    curve = curve / slope
    step -= curve * step * step
    v += step
    slope *= 1 + 2 * curve * step
    start = np.minimum(np.maximum(first - 4, 1), len(_LOGITS) - 15)
    parts = _BARYCENTRIC / (v[:, None] - _SIXTEEN)
    more = (target - (parts * table[start[:, None] + np.arange(16)]).sum(axis=1) / parts.sum(axis=1)) / slope
    agree = (np.abs(more) <= _AGREE) & (start == first - 4)
    share = 1 / (1 + np.exp(-_LOGITS[first + 2] - _STEP * (v + np.where(agree, more, 0.0) + 0.5)))
    return share, slope, smooth, agree


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
