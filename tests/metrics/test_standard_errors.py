"""Stated standard errors against the spread of independent draws, for equal laws and for laws apart."""

import math
from functools import partial

import numpy as np
import pytest

from sdediff import metrics

pytest.importorskip("ot", reason="sliced_wasserstein needs POT: pip install 'sdediff[metrics]'")
MEASURES = {
    "sliced_wasserstein": partial(metrics.sliced_wasserstein, projections=16),
    "energy": metrics.energy_distance,
    "mmd": partial(metrics.mmd, bandwidth=3.0),
    "frechet": metrics.frechet,
}
MANIFOLDS = {name: getattr(metrics, name) for name in ("precision", "recall", "density", "coverage")}


def drawn(measure, shift, draws, dims, n, m):
    """The values and the stated errors over independent draws of both sets."""
    found = drawn_estimates(measure, shift, draws, dims, n, m)
    return np.array([e.value for e in found]), np.array([e.std_error for e in found])


def drawn_estimates(measure, shift, draws, dims, n, m):
    """The estimates over independent draws of both sets."""
    rng = np.random.default_rng(23)
    found = []
    for _ in range(draws):
        y = rng.standard_normal((m, dims))
        y[:, 0] += shift
        found.append(measure(rng.standard_normal((n, dims)), y))
    return found


def agreement(values, errors, middle=None):
    """The stated error over the spread, rms and median, and the share of intervals that cover the expected value."""
    spread = values.std(ddof=1)
    middle = values.mean() if middle is None else middle
    covered = np.abs(values - middle) < 1.96 * errors
    return math.sqrt((errors**2).mean()) / spread, np.median(errors) / spread, covered.mean()


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_over_forty_seeds(name, shift):
    rms, _, covered = agreement(*drawn(MEASURES[name], shift, 40, 8, 100, 120))
    assert covered >= 0.9
    # The spread of forty draws is itself known to 11 %.
    assert 0.75 < rms < (1.35 if shift else 1.8)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_as_stated(name, shift):
    rms, middle, covered = agreement(*drawn(MEASURES[name], shift, 400, 16, 200, 200))
    # The standard error of a coverage of .95 over 400 draws is .011.
    assert 0.9 <= covered <= 0.98
    assert 0.85 < middle < 1.2
    assert 0.88 < rms < 1.25


@pytest.mark.parametrize("dims", [1, 4, 16])
@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", ["energy", "mmd"])
def test_intervals_cover_between_equal_laws_and_laws_apart(name, shift, dims):
    """Where value +- 1.96 std_error covers .81 at worst: it misses distances above the value."""
    found = drawn_estimates(MEASURES[name], shift, 300, dims, 100, 100)
    middle = max(float(np.mean([e.value for e in found])), 0.0)
    covered = np.mean([e.interval[0] <= middle <= e.interval[1] for e in found])
    # The standard error of a coverage of .95 over 300 draws is .013.
    assert 0.9 <= covered <= 0.99
    assert all(0 <= e.interval[0] <= e.interval[1] for e in found)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_intervals_of_neighbourhoods_cover(name):
    rms, _, covered = agreement(*drawn(MANIFOLDS[name], 0.5, 40, 4, 80, 80))
    assert covered >= 0.9
    assert 0.7 < rms < 1.6


def test_the_two_parts_of_the_variance_are_those_of_a_squared_mean():
    """The statistic (mean x - mean y)^2 of unit normals: variance 4 d^2 v + 2 v^2, v = 1/n + 1/m."""
    from sdediff.metrics.estimates import spread

    rng, n, m = np.random.default_rng(3), 400, 300
    v = 1 / n + 1 / m
    for gap in (0.0, 2.0):
        stated = []
        for _ in range(40):
            pooled = np.concatenate([rng.standard_normal(n) + gap, rng.standard_normal(m)])
            stated.append(spread(lambda a, b, pooled=pooled: (pooled[a].mean() - pooled[b].mean()) ** 2, n, m).variance)
        # Of one direction alone the first part's estimate is widest where it is 0, and is cut off there.
        exact = 4 * gap**2 * v + 2 * v**2
        assert 0.8 < np.mean(stated) / exact < (1.3 if gap else 2.6)
