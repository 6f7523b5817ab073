"""The ranking of solvers by a quality, with the places that each may have given the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sdediff.benchmark.rows import Row
from sdediff.benchmark.significance import rises_with_quality

_LEVEL = 0.975


class Place(NamedTuple):
    """A solver's value with half the width of its 95 % interval, and the first and last place that it may have."""

    label: str
    value: float
    half_width: float
    first: int
    last: int

    @property
    def places(self) -> str:
        """The places as text: "2" or "1-4"."""
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def places(rows: Sequence[Row], quality: str) -> list[Place]:
    """The rows that have a quality, best first.

    A solver is behind another where the difference of their means is above half of its 95 % interval, by Student's law
    with the degrees of freedom of the seeds; errors are compared by their logarithm. The seeds are the same for all,
    which makes these intervals too wide rather than too narrow. Without standard errors, as of one seed, places are
    those of the values.
    """
    named = [row for row in rows if quality in row.quality and not row.real]
    found = [row for row in named if math.isfinite(row.quality[quality].value)]
    scaled = [_scaled(row, quality) for row in found]
    order = sorted(range(len(found)), key=lambda i: scaled[i][0])
    ranking = []
    for i in order:
        behind = sum(_behind(scaled[i], scaled[j]) for j in order if j != i)
        ahead = sum(_behind(scaled[j], scaled[i]) for j in order if j != i)
        row = found[i]
        value, error = row.quality[quality]
        label = f"{row.name} {row.grid}" if row.grid and _several(found, row) else row.label
        half = _quantile(scaled[i].freedom) * (error or 0.0)
        ranking.append(Place(label, value, half, 1 + behind, len(found) - ahead))
    return ranking


def _several(rows: Sequence[Row], row: Row) -> bool:
    return sum(other.at == row.at for other in rows) > 1


class _Scaled(NamedTuple):
    """A value where it is compared, less is better, its standard error, and the degrees of freedom of that."""

    value: float
    std_error: float
    freedom: int


def _scaled(row: Row, quality: str) -> _Scaled:
    value, error = row.quality[quality].value, row.quality[quality].std_error or 0.0
    if quality.startswith("error") and value > 0:
        return _Scaled(math.log(value), error / value, row.seeds - 1)
    return _Scaled(-value if rises_with_quality(quality) else value, error, row.seeds - 1)


def _behind(one: _Scaled, other: _Scaled) -> bool:
    error = math.hypot(one.std_error, other.std_error)
    return one.value - other.value > _quantile(one.freedom + other.freedom) * error


def _quantile(freedom: int) -> float:
    """Student's quantile of a 95 % interval; the normal law's where the error is that of many samples of one seed."""
    from scipy.stats import t

    return float(t.ppf(_LEVEL, freedom if freedom > 0 else math.inf))
