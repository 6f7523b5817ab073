"""Distances between samples, each with its standard error."""

from sdediff.metrics.distances import DISTANCES, Estimate, distance, energy_distance, frechet, mmd, sliced_wasserstein

__all__ = ["DISTANCES", "Estimate", "distance", "energy_distance", "frechet", "mmd", "sliced_wasserstein"]
