"""Whether a quality differs between two runs of a sweep by more than its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import NamedTuple

from sdediff.benchmark.cells import Cell
from sdediff.metrics import MANIFOLDS

# Degrees of freedom that the noise within a run, estimated from its samples, counts for beside that between seeds.
_WITHIN = 12
_MEDIAN, _Q90, _Q99 = 1.2533, 1.2816, 2.3263


class Noisy(NamedTuple):
    """A quality of one cell on the scale on which it is compared, and the variance of its noise there."""

    value: float
    variance: float


class Difference(NamedTuple):
    """B less A on the scale of comparison, and the two-sided p-value of no difference."""

    change: float
    p: float


def noisy(cell: Cell, quality: str) -> Noisy | None:
    """A quality of a cell with its noise over starts; None where the cell has none that can be compared.

    Errors against the flow are compared by their logarithm. The spread of the errors' logarithms over the samples is
    read from their quantiles, as of a log-normal law. Shares have the variance of a binomial law with half a
    sample more on each side (Agresti, Coull 1998), distances the standard error that they state.
    """
    if quality in cell.distances:
        distance, error = cell.distances[quality]
        return Noisy(distance, error**2) if math.isfinite(distance) and math.isfinite(error) else None
    value = getattr(cell, quality, None)
    if value is None:
        return None
    n = cell.samples
    if quality == "other_mode":
        share = (value * n + 0.5) / (n + 1)
        return Noisy(value, share * (1 - share) / n)
    median, q90, q99 = cell.error_median, cell.error_q90, cell.error_q99
    if not (value > 0 and median and q90 and q99 and math.isfinite(value)):
        return None
    if quality == "error_median":
        return Noisy(math.log(value), (_MEDIAN * math.log(q90 / median) / _Q90) ** 2 / n)
    # The mean of squares of a log-normal law has the squared relative error (e^{4 s^2} - 1)/n.
    width = max(math.log(q99 / median) / _Q99, math.log(q90 / median) / _Q90)
    return Noisy(math.log(value), (math.exp(min(4 * width**2, 300.0)) - 1) / (4 * n))


def difference(a: dict[int, Noisy], b: dict[int, Noisy]) -> Difference:
    """The mean difference of two runs and its significance; seed -> quality.

    Where at least two seeds are in both, their differences are taken seed by seed: the starts are the same. The
    variance is that between seeds, joined with that within a run as a prior of 12 degrees of freedom (Smyth 2004),
    which for equal starts is too large rather than too small. Student's t-test.
    """
    shared = sorted(set(a) & set(b))
    if len(shared) >= 2 or (shared and len(a) == len(b) == 1):
        gaps = [b[seed].value - a[seed].value for seed in shared]
        within = fmean([a[seed].variance + b[seed].variance for seed in shared])
        return _tested(fmean(gaps), within, [gaps], 1 / len(gaps))
    first, second = ([item.value for item in side.values()] for side in (a, b))
    within = fmean([item.variance for side in (a, b) for item in side.values()])
    return _tested(fmean(second) - fmean(first), within, [first, second], 1 / len(first) + 1 / len(second))


def _tested(change: float, within: float, groups: Sequence[Sequence[float]], per: float) -> Difference:
    from scipy.stats import t

    freedom = sum(len(group) - 1 for group in groups)
    between = sum(variance(group) * (len(group) - 1) for group in groups if len(group) > 1)
    joined = (_WITHIN * within + between) / (_WITHIN + freedom)
    if change == 0:
        return Difference(0.0, 1.0)
    if joined <= 0:
        return Difference(change, 0.0)
    return Difference(change, float(2 * t.sf(abs(change) / math.sqrt(joined * per), _WITHIN + freedom)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that any false one among all is as rare as stated. Holm 1979."""
    order, adjusted, most = sorted(range(len(p)), key=p.__getitem__), [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = most
    return adjusted


def rises_with_quality(quality: str) -> bool:
    """Whether more of it is better."""
    return quality.partition("[")[0] in MANIFOLDS
