"""Intervals of 95 % for distances that are quadratic in the difference of two laws."""

from __future__ import annotations

import math

# The quantile .975 of the normal law, and of Student's with 19 degrees of freedom.
Z95, STUDENT = 1.959964, 2.093024


def solved(
    value: float, linear: float, quadratic: float, steepest: float, quantile: float = Z95
) -> tuple[float, float]:
    """The distances theta within quantile sqrt(quadratic + c theta) of the value, as Wilson 1927 for a proportion.

    c theta is the variance's linear part, c at most `steepest`. linear / value estimates c, and replaces that bound as
    far as the value is large beside its error.
    """
    at, part = max(value, 0.0), max(linear, 0.0)
    weight = quadratic + part
    slope = min(steepest, (at * part + steepest * weight) / (at**2 + weight)) if weight > 0 else 0.0
    b = quantile**2 * slope
    root = math.sqrt(max(b**2 + 4 * (b * value + quantile**2 * quadratic), 0.0))
    return value + (b - root) / 2, value + (b + root) / 2
