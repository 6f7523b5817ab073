"""Intervals of 95 % for distances that are quadratic in the difference of two laws."""

from __future__ import annotations

import math

# The quantile .975 of the normal law, and of Student's with 19 degrees of freedom.
Z95, STUDENT = 1.959964, 2.093024


def solved(
    value: float, linear: float, quadratic: float, steepest: float, below: float = Z95, above: float = Z95
) -> tuple[float, float]:
    """The distances theta for which the value is no surprise, as Wilson 1927 for a proportion.

    The value is theta with the variance quadratic + c theta, c at most `steepest`; linear / value estimates c, and
    replaces that bound as far as the value is large beside its error. Below theta = 0, which is one law, the variance
    is its quadratic part. below, above: the quantiles of theta below and above the value.
    """
    at, part = max(value, 0.0), max(linear, 0.0)
    weight = quadratic + part
    slope = min(steepest, (at * part + steepest * weight) / (at**2 + weight)) if weight > 0 else 0.0

    def end(quantile: float, sign: int) -> float:
        b = quantile**2 * slope
        return value + (b + sign * math.sqrt(max(b**2 + 4 * (b * value + quantile**2 * quadratic), 0.0))) / 2

    least = below * math.sqrt(quadratic)
    return end(below, -1) if value > least else value - least, end(above, 1)


def skewed(mean: float, variance: float, quantile: float) -> float:
    """A quantile in standard deviations of a multiple of a chi-squared law of this mean and variance.

    quantile: that of the law that takes the normal's place as the degrees of freedom grow. Wilson, Hilferty 1931.
    """
    if not (mean > 0 and variance > 0):
        return quantile
    width = variance / (9 * mean**2)
    return ((1 - width + quantile * math.sqrt(width)) ** 3 - 1) / (3 * math.sqrt(width))
