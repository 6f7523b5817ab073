"""Distances between samples, each with its standard error."""

from sdediff.metrics.distances import DISTANCES, MANIFOLDS, distance, measure
from sdediff.metrics.estimates import Estimate
from sdediff.metrics.gaussian_fit import frechet
from sdediff.metrics.kernel_distances import energy_distance, mmd
from sdediff.metrics.manifolds import coverage, density, precision, recall
from sdediff.metrics.transport import sliced_wasserstein

__all__ = [
    "DISTANCES",
    "MANIFOLDS",
    "Estimate",
    "coverage",
    "density",
    "distance",
    "energy_distance",
    "frechet",
    "measure",
    "mmd",
    "precision",
    "recall",
    "sliced_wasserstein",
]
