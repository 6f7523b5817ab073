"""Intervals by inverting a test: closed forms, and what holds at their ends."""

import math

import pytest
from scipy.stats import chi2

from sdediff.metrics.intervals import skewed, solved


@pytest.mark.parametrize("freedom", [2, 5, 20, 200])
def test_a_skewed_quantile_is_that_of_a_chi_squared_law(freedom):
    exact = (chi2.ppf(0.975, freedom) - freedom) / math.sqrt(2 * freedom)
    assert skewed(freedom, 2 * freedom, 1.959964) == pytest.approx(exact, rel=0.01)
    # It is that of any multiple of the law.
    assert skewed(3.0 * freedom, 18.0 * freedom, 1.96) == pytest.approx(skewed(freedom, 2 * freedom, 1.96), rel=1e-12)


def test_a_law_without_spread_has_the_quantile_itself():
    assert skewed(1.0, 0.0, 2.0) == skewed(0.0, 1.0, 2.0) == 2.0


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.3, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("steepest", [0.0, 0.1, 3.0])
def test_the_ends_are_where_the_value_is_the_quantile_away(value, steepest):
    low, high = solved(value, 0.0, 0.2, steepest, 2.0, 1.5)
    assert low <= value <= high
    # Without a linear part of its own the value says nothing of c beyond its bound, once it is near its error.
    slope = min(steepest, steepest * 0.2 / (max(value, 0.0) ** 2 + 0.2))
    for theta, quantile in ((low, 2.0), (high, 1.5)):
        variance = 0.2 + slope * max(theta, 0.0)
        if theta > 0 or theta == low:
            assert abs(value - theta) == pytest.approx(quantile * math.sqrt(variance), rel=1e-9)


def test_far_from_equal_laws_the_interval_is_that_of_the_variance():
    low, high = solved(100.0, 4.0, 0.01, 0.2, 1.96, 1.96)
    assert (high - low) / 2 == pytest.approx(1.96 * 2.0, rel=0.02)
