"""Stated standard errors against the spread of independent draws, for equal laws and for laws apart."""

import math
from functools import partial

import numpy as np
import pytest

from sdediff import metrics

MEASURES = {
    "sliced_wasserstein": partial(metrics.sliced_wasserstein, projections=16),
    "energy": metrics.energy_distance,
    "mmd": partial(metrics.mmd, bandwidth=3.0),
    "frechet": metrics.frechet,
}
MANIFOLDS = {name: getattr(metrics, name) for name in ("precision", "recall", "density", "coverage")}


def drawn(measure, shift, draws, dims, n, m):
    """The estimates over independent draws of both sets, whose laws are apart by a shift of the first dimension."""
    rng = np.random.default_rng(23)
    found = []
    for _ in range(draws):
        y = rng.standard_normal((m, dims))
        y[:, 0] += shift
        found.append(measure(rng.standard_normal((n, dims)), y))
    return found


def agreement(found):
    """The stated error over the spread, rms and median, and the share of intervals that cover the expected value."""
    values, errors = np.array([e.value for e in found]), np.array([e.std_error for e in found])
    spread = values.std(ddof=1)
    return math.sqrt((errors**2).mean()) / spread, np.median(errors) / spread, covered(found)


def covered(found):
    """The share of intervals that hold the expected value, which is a distance and so at least 0."""
    middle = max(float(np.mean([e.value for e in found])), 0.0)
    return np.mean([e.interval[0] <= middle <= e.interval[1] for e in found])


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_over_forty_seeds(name, shift):
    rms, _, share = agreement(drawn(MEASURES[name], shift, 40, 8, 100, 120))
    assert share >= 0.9
    # The spread of forty draws is itself known to 11 %.
    assert 0.75 < rms < (1.35 if shift else 1.8)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_as_stated(name, shift):
    rms, middle, share = agreement(drawn(MEASURES[name], shift, 400, 16, 200, 200))
    # The standard error of a coverage of .95 over 400 draws is .011.
    assert 0.9 <= share <= 0.98
    assert 0.85 < middle < 1.2
    assert 0.88 < rms < 1.25


@pytest.mark.parametrize("dims", [1, 4, 16])
@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", ["energy", "mmd"])
def test_intervals_cover_between_equal_laws_and_laws_apart(name, shift, dims):
    """Where value +- 1.96 std_error covers .81 at worst: it misses distances above the value."""
    found = drawn(MEASURES[name], shift, 300, dims, 100, 100)
    # The standard error of a coverage of .95 over 300 draws is .013.
    assert 0.9 <= covered(found) <= 0.99
    assert all(0 <= e.interval[0] <= e.interval[1] for e in found)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 8, 32])
@pytest.mark.parametrize("shift", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("name", ["frechet", "sliced_wasserstein"])
def test_intervals_of_biased_distances_cover_near_equal_laws(name, shift, dims):
    """Of the expected value at so many samples, where value +- 1.96 std_error covers .84 at worst."""
    found = drawn(MEASURES[name], shift, 150, dims, 256, 256)
    # The standard error of a coverage of .95 over 150 draws is .018: one set of draws may be covered whole.
    assert covered(found) >= 0.9
    assert all(0 <= e.interval[0] <= e.value <= e.interval[1] for e in found)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_intervals_of_neighbourhoods_cover(name):
    rms, _, share = agreement(drawn(MANIFOLDS[name], 0.5, 40, 4, 80, 80))
    assert share >= 0.9
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
