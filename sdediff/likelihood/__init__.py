"""Likelihoods: log p(x) with its error, and bits per dimension."""

from sdediff.likelihood.api import log_likelihood
from sdediff.likelihood.ends import PRIORS
from sdediff.likelihood.path import path_statistics
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.samples import sample_with_log_prob
from sdediff.likelihood.trace import TRACES, divergence, forward_divergence, probe_vectors
from sdediff.likelihood.typical import PathStatistics
from sdediff.likelihood.units import Discrete, bits_per_dim, offset

__all__ = [
    "PRIORS",
    "TRACES",
    "Discrete",
    "Likelihood",
    "PathStatistics",
    "bits_per_dim",
    "divergence",
    "forward_divergence",
    "log_likelihood",
    "offset",
    "path_statistics",
    "probe_vectors",
    "sample_with_log_prob",
]
