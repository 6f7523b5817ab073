"""Distances between two sets of samples by name."""

from __future__ import annotations

from collections.abc import Callable

from sdediff._utils.checks import known
from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff.metrics.estimates import Estimate
from sdediff.metrics.gaussian_fit import frechet
from sdediff.metrics.kernel_distances import energy_distance, mmd
from sdediff.metrics.manifolds import coverage, density, precision, recall
from sdediff.metrics.transport import sliced_wasserstein

DISTANCES: dict[str, Callable[..., Estimate]] = {
    "sliced_wasserstein": sliced_wasserstein,
    "energy": energy_distance,
    "mmd": mmd,
    "frechet": frechet,
}


def distance(name: str) -> Callable[..., Estimate]:
    """The distance of that name in DISTANCES; InputError with the nearest name otherwise."""
    if not known(name, DISTANCES):
        raise InputError(nearest(name, DISTANCES, "distance"))
    return DISTANCES[name]


# Of likeness and reach, where more is better: no distances.
MANIFOLDS: dict[str, Callable[..., Estimate]] = {
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}


def measure(name: str) -> Callable[..., Estimate]:
    """The measure of that name, a distance or one of MANIFOLDS; InputError with the nearest name otherwise."""
    if not known(name, {**DISTANCES, **MANIFOLDS}):
        raise InputError(nearest(name, [*DISTANCES, *MANIFOLDS], "distance"))
    return {**DISTANCES, **MANIFOLDS}[name]
