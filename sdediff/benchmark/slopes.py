"""The slope of an error against network evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence


def slope(points: Sequence[tuple[int, float]]) -> float | None:
    """Minus the slope of log error against log calls between the last two numbers of calls; None with fewer.

    points: (calls, error). It is a solver's order where the steps are small enough.
    """
    known = sorted((calls, error) for calls, error in points if calls > 0 and error > 0)
    if len(known) < 2 or known[-1][0] == known[-2][0]:
        return None
    (few, large), (many, small) = known[-2:]
    return math.log(large / small) / math.log(many / few)
