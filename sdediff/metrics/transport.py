"""The sliced Wasserstein distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sdediff._utils.checks import number, whole
from sdediff._utils.errors import InputError
from sdediff.metrics.estimates import Estimate, checked, flat, spread
from sdediff.noise.counter import normals

# A stream of a seed that nothing else uses.
_DIRECTIONS = (0xFFFFFFF0, 0)
# Number of projected values handled at once, which bounds the memory.
_AT_ONCE = 1 << 22
# Number of directions by which the standard error is estimated.
_FOR_ERROR = 32


def sliced_wasserstein(x: Any, y: Any, projections: int = 200, p: float = 2, seed: int = 0) -> Estimate:
    """Sliced Wasserstein distance of order p: (mean over directions of W_p^p)^(1/p), >= 0.

    x (N, *shape), y (M, *shape), N and M at least 20; in the units of x. Bonneel et al. 2015.
    Biased upwards: sets from one law give about N^(-1/2), not 0. The directions are a function of `seed`
    and the standard error is that over samples for these directions: compare values of one seed. For p other
    than 2 the interval is value +- 1.96 std_error, which covers less than 95 % near equal laws.
    InputError: other shapes, too few samples, NaN or Inf, projections < 1, p < 1.
    """
    projections, p, seed = whole("projections", projections), number("p", p), whole("seed", seed)
    if not (projections >= 1 and 1 <= p < math.inf):
        raise InputError(f"projections={projections}, p={p}: give at least one projection and 1 <= p < inf")
    first, second = (flat(v).cpu().numpy() for v in checked(x, y))
    directions = normals(seed, np.arange(projections), _DIRECTIONS, first.shape[1:]).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    n, m = len(first), len(second)
    projected = directions @ np.concatenate([first, second]).T
    powers = _Powers(projected, p)

    # The mean of W_p^p is what is quadratic where the laws are the same, not its root; its variance over draws of the
    # sets depends little on the number of directions.
    some = min(projections, _FOR_ERROR)
    power = spread(lambda *masks: powers.mean(masks, some), n, m)
    value = powers.mean((np.arange(n + m) < n, np.arange(n + m) >= n), projections) ** (1 / p)
    slope = value / (p * power.value) if power.value > 0 else 0.0
    bounds = None
    if p == 2 and power.value > 0:
        low, high = power.interval(_steepest(projected[:some, :n], projected[:some, n:]))
        bounds = value * math.sqrt(low / power.value), value * math.sqrt(high / power.value)
    return Estimate(value, slope * math.sqrt(power.variance), f"sliced_w{p:g}", bounds)


class _Powers:
    """W_p^p between parts of the pooled rows, from their projections (K, n + m), which are sorted once."""

    def __init__(self, projected: np.ndarray, p: float) -> None:
        self.p, self.order = p, np.argsort(projected, axis=1)
        self.values = np.take_along_axis(projected, self.order, axis=1)
        self.couplings: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def mean(self, masks: Sequence[np.ndarray], count: int) -> float:
        """Over the first `count` directions, of the sets that two masks (n + m,) keep."""
        sizes = tuple(int(mask.sum()) for mask in masks)
        if sizes not in self.couplings:
            self.couplings[sizes] = _coupling(*sizes)
        rows, columns, weights = self.couplings[sizes]
        total, step = 0.0, max(1, _AT_ONCE // self.values.shape[1])
        for i in range(0, count, step):
            part, at = self.values[i : min(i + step, count)], self.order[i : min(i + step, count)]
            # Every direction keeps equally many values, so the selection is again a matrix with sorted rows.
            left, right = (part[mask[at]].reshape(len(part), -1) for mask in masks)
            total += float((np.abs(left[:, rows] - right[:, columns]) ** self.p @ weights).sum())
        return total / count


def _coupling(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The optimal coupling of n and of m equal weights in order: numbers in both sets, and the weight of each pair."""
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    return -(-ends // m) - 1, -(-ends // n) - 1, np.diff(ends, prepend=0) / (n * m)


def _steepest(x: np.ndarray, y: np.ndarray) -> float:
    """The most that the variance's linear part can be over the mean of W_2^2, of projections (K, n) and (K, m).

    The potential of a direction has the slope 2 (x - T x) by optimal transport T, whose mean square is 4 W_2^2, and
    the variance of a function of slope v is at most v^T C v where Poincare's inequality holds as for normal laws.
    """
    covariance = np.atleast_2d((np.cov(x) + np.cov(y)) / 2)
    return 4 * (1 / x.shape[1] + 1 / y.shape[1]) * float(np.linalg.eigvalsh(covariance)[-1]) / len(x)
