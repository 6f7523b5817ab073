"""Likelihoods: log p(x) with its error, and bits per dimension."""

from sdediff.likelihood.ode import Likelihood, log_likelihood
from sdediff.likelihood.trace import TRACES, divergence, probe_vectors
from sdediff.likelihood.units import bits_per_dim, offset

__all__ = ["TRACES", "Likelihood", "bits_per_dim", "divergence", "log_likelihood", "offset", "probe_vectors"]
