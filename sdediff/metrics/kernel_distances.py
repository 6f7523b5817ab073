"""Energy distance and maximum mean discrepancy: two-sample U-statistics with their own variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff.metrics.estimates import Estimate, checked, flat, summed
from sdediff.metrics.intervals import solved

# Number of pairs handled at once, which bounds the memory.
_AT_ONCE = 1 << 19
# Rows of each set, and iterations, for the largest eigenvalue.
_ROWS, _ITERATIONS = 250, 20


def energy_distance(x: Any, y: Any) -> Estimate:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| (no root), in the units of x.

    x (N, *shape), y (M, *shape), N and M at least 20. Unbiased (sums over distinct pairs), so it may be
    negative when the two laws are near. Zero if and only if the laws are the same. Szekely, Rizzo 2013.
    InputError: different shapes, too few samples, NaN or Inf.
    """
    return kernel_distance(*centred(x, y), lambda d: -d, "energy")


def mmd(x: Any, y: Any, bandwidth: float | None = None) -> Estimate:
    """Squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 bandwidth^2)), without units.

    x (N, *shape), y (M, *shape), N and M at least 20. Unbiased (sums over distinct pairs), so it may be
    negative when the two laws are near. bandwidth: by default the median distance among up to 1000 samples
    of both sets, evenly spaced; its value is in the name, and values of different bandwidths do not compare. Gretton et
    al. 2012, eq. 3. InputError: different shapes, too few samples, NaN or Inf, bandwidth not > 0.
    """
    first, second = centred(x, y)
    if bandwidth is None:
        pool = [v[:: math.ceil(len(v) / 500)] for v in (first, second)]
        bandwidth = float(torch.pdist(torch.cat(pool)).median())
    if not 0 < number("bandwidth", bandwidth):
        raise InputError(f"mmd: bandwidth={bandwidth}: give a finite bandwidth > 0, in the units of x")
    rate = -0.5 / bandwidth**2
    return kernel_distance(first, second, lambda d: (rate * d**2).exp(), f"mmd2[rbf {bandwidth:.3g}]")


def centred(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Flat sets minus the mean of x: distances by inner products lose digits far from the origin."""
    first, second = map(flat, checked(x, y))
    return first - first.mean(dim=0), second - first.mean(dim=0)


class _Pairs(NamedTuple):
    """Sums of a kernel over pairs of rows: for each row, for each column, and of squares; `pairs` of them."""

    rows: Tensor
    columns: Tensor
    squares: float
    pairs: int

    @property
    def total(self) -> float:
        """The sum over all pairs."""
        return float(self.rows.sum())


def _between(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> _Pairs:
    rows, columns, squares = x.new_zeros(len(x)), x.new_zeros(len(y)), 0.0
    step = max(1, _AT_ONCE // len(y))
    for i in range(0, len(x), step):
        values = kernel(torch.cdist(x[i : i + step], y, compute_mode="use_mm_for_euclid_dist"))
        rows[i : i + step] = values.sum(1)
        columns += values.sum(0)
        squares += float(values.flatten() @ values.flatten())
    return _Pairs(rows, columns, squares, len(x) * len(y))


def _within(x: Tensor, kernel: Callable[[Tensor], Tensor]) -> _Pairs:
    """Over distinct pairs, each kernel evaluated once."""
    rows, squares = x.new_zeros(len(x)), 0.0
    step = max(1, _AT_ONCE // len(x))
    for i in range(0, len(x), step):
        values = kernel(torch.cdist(x[i : i + step], x[i:], compute_mode="use_mm_for_euclid_dist"))
        values.fill_diagonal_(0.0)
        square, beyond = values[:, :step], values[:, step:]
        rows[i : i + step] += values.sum(1)
        rows[i + step :] += beyond.sum(0)
        squares += 2 * float(values.flatten() @ values.flatten()) - float(square.square().sum())
    return _Pairs(rows, rows, squares, len(x) * (len(x) - 1))


def kernel_distance(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor], name: str) -> Estimate:
    """k(x, x') + k(y, y') - 2 k(x, y), means over distinct pairs, with the variance of Hoeffding's decomposition.

    U - E U is a sum of uncorrelated parts: 2/n sum a(x_i) + 2/m sum b(y_j), which vanishes where the laws are the same,
    and sums over pairs of the doubly centred kernel. Sutherland, Deka 2019; Serfling 1980, 5.2.
    """
    n, m = len(x), len(y)
    xx, yy, xy = _within(x, kernel), _within(y, kernel), _between(x, y, kernel)
    value = xx.total / xx.pairs + yy.total / yy.pairs - 2 * xy.total / xy.pairs
    q_xx, q_yy, q_xy = _within_variance(xx, n), _within_variance(yy, m), _between_variance(xy, n, m)
    # Each mean over the other rows has a noise of its own, which is no part of the first order.
    first_x = (xx.rows / (n - 1) - xy.rows / m).var().item() - q_xx / (n - 1) - q_xy / m
    first_y = (yy.rows / (m - 1) - xy.columns / n).var().item() - q_yy / (m - 1) - q_xy / n
    second = 2 * q_xx / (n * (n - 1)) + 2 * q_yy / (m * (m - 1)) + 4 * q_xy / (n * m)
    linear = 4 * first_x / n + 4 * first_y / m
    steepest = 4 * (1 / n + 1 / m) * _largest_eigenvalue(x, y, kernel)
    low, high = solved(value, linear, second, steepest)
    return Estimate(value, math.sqrt(summed(linear, second)), name, (max(low, 0.0), max(high, 0.0)))


def _largest_eigenvalue(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    """Of the kernel's covariance within the sets, by power iteration on up to 250 rows of each, evenly spaced.

    The variance of a witness of norm theta^(1/2) is at most this times theta (Gretton et al. 2009).
    """
    x, y = (v[:: math.ceil(len(v) / _ROWS)] for v in (x, y))
    pooled, n = torch.cat([x, y]), len(x)
    values = kernel(torch.cdist(pooled, pooled, compute_mode="use_mm_for_euclid_dist")).fill_diagonal_(
        float(kernel(x.new_zeros(1)))
    )

    def applied(v: Tensor) -> Tensor:
        for part in (v[:n], v[n:]):
            part -= part.mean()
        v = values @ v
        for part in (v[:n], v[n:]):
            part -= part.mean()
        return v

    vector = values[0].clone()
    for _ in range(_ITERATIONS):
        vector = applied(vector)
        norm = vector.norm()
        if not norm > 0:
            return 0.0
        vector = vector / norm
    return float(vector @ applied(vector.clone())) / (len(pooled) - 2)


def _within_variance(pairs: _Pairs, n: int) -> float:
    """E of the squared doubly centred kernel over distinct pairs of one set: E k^2 - 2 E (E k|x)^2 + (E k)^2."""
    mean_square, mean = pairs.squares / pairs.pairs, pairs.total / pairs.pairs
    # The squared row mean holds the variance within a row.
    rows = float((pairs.rows / (n - 1)).square().mean())
    rows = (rows * (n - 1) - mean_square) / (n - 2)
    return max(mean_square - 2 * rows + mean**2, 0.0)


def _between_variance(pairs: _Pairs, n: int, m: int) -> float:
    """The same between two sets: E k^2 - E (E k|x)^2 - E (E k|y)^2 + (E k)^2."""
    mean_square, mean = pairs.squares / pairs.pairs, pairs.total / pairs.pairs
    rows = (float((pairs.rows / m).square().mean()) * m - mean_square) / (m - 1)
    columns = (float((pairs.columns / n).square().mean()) * n - mean_square) / (n - 1)
    return max(mean_square - rows - columns + mean**2, 0.0)
