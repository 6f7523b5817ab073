"""The ranking of solvers by a quality, with the places that each may have given the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sdediff.benchmark.rows import Row
from sdediff.benchmark.significance import rises_with_quality

# The half width of a 95 % interval in standard errors.
_WIDTH = 1.96


class Place(NamedTuple):
    """A solver's value with its standard error, and the first and last place that it may have."""

    label: str
    value: float
    std_error: float
    first: int
    last: int

    @property
    def places(self) -> str:
        """The places as text: "2" or "1-4"."""
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


def places(rows: Sequence[Row], quality: str) -> list[Place]:
    """The rows that have a quality, best first.

    A solver is behind another where the difference of their means is above 1.96 of its standard error; errors are
    compared by their logarithm. The seeds are the same for all, which makes these intervals too wide rather than too
    narrow. Without standard errors, as of one seed, places are those of the values.
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
        ranking.append(Place(label, value, error or 0.0, 1 + behind, len(found) - ahead))
    return ranking


def _several(rows: Sequence[Row], row: Row) -> bool:
    return sum(other.at == row.at for other in rows) > 1


def _scaled(row: Row, quality: str) -> tuple[float, float]:
    """The value and its standard error where they are compared: less is better."""
    value, error = row.quality[quality].value, row.quality[quality].std_error or 0.0
    if quality.startswith("error") and value > 0:
        return math.log(value), error / value
    return (-value if rises_with_quality(quality) else value), error


def _behind(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] - other[0] > _WIDTH * math.hypot(one[1], other[1])
