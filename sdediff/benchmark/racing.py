"""Which cells deserve another seed: those that may still be the best of their task and budget.

A race after Maron and Moore 1994 (Hoeffding races) with the paired t intervals of Birattari et al. 2002: solvers run
from the same seeds, so a solver leaves the race once the mean difference of its log error to the leader's, over their
common seeds, exceeds the half width of its 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from sdediff.benchmark.cells import OK, REAL_DATA, Cell

_LEVEL = 0.975


def contested(cells: Sequence[Cell], distance: str) -> list[int]:
    """The numbers of the first cells of all solvers that are still in a race with another.

    Deterministic solvers race by error_median, stochastic ones by the distance; every task and number of calls allowed
    is a race of its own.
    """
    races: dict[Any, dict[Any, dict[int, float]]] = {}
    first: dict[Any, int] = {}
    for cell in cells:
        value = _value(cell, distance)
        if cell.budget is None or value is None or cell.library == REAL_DATA:
            continue
        runners = races.setdefault((cell.task, cell.budget, cell.error_median is None), {})
        runners.setdefault(cell.key, {})[cell.seed] = value
        first[cell.key] = min(first.get(cell.key, cell.index), cell.index)
    return sorted(first[key] for runners in races.values() for key in _in_race(runners))


def _value(cell: Cell, distance: str) -> float | None:
    """What a cell is ranked by: the logarithm of its error, or its distance, which may be negative."""
    if cell.status != OK:
        return None
    if cell.error_median is None:
        return cell.distances[distance][0] if distance in cell.distances else None
    return math.log(max(cell.error_median, 1e-300))


def _in_race(runners: dict[Any, dict[int, float]]) -> list[Any]:
    """The leader and all that are not shown to be worse; nobody where the leader is alone."""
    leader = min(runners, key=lambda key: fmean(runners[key].values()))
    rivals = [key for key in runners if key != leader and not _worse(runners[key], runners[leader])]
    return [leader, *rivals] if rivals else []


def _worse(values: dict[int, float], best: dict[int, float]) -> bool:
    """Whether the mean paired difference to the best is above zero by more than its interval's half width."""
    from scipy.stats import t

    gaps = [values[seed] - best[seed] for seed in values if seed in best]
    if len(gaps) < 2:
        return False
    half = float(t.ppf(_LEVEL, len(gaps) - 1)) * stdev(gaps) / math.sqrt(len(gaps))
    return fmean(gaps) > half
