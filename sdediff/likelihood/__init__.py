"""Likelihoods: log p(x) with estimates of its error, variational bounds, and bits per dimension."""

from sdediff.likelihood.api import log_likelihood
from sdediff.likelihood.encoder_decoder import decoder_std, encoder_decoder_bound
from sdediff.likelihood.ends import PRIORS
from sdediff.likelihood.path_features import path_statistics
from sdediff.likelihood.result import Likelihood
from sdediff.likelihood.samples import sample_with_log_prob
from sdediff.likelihood.settings import LikelihoodSettings
from sdediff.likelihood.trace import TRACES, divergence, forward_divergence, probe_vectors
from sdediff.likelihood.typicality import PathStatistics
from sdediff.likelihood.units import Discrete, bits_per_dim, offset

__all__ = [
    "PRIORS",
    "TRACES",
    "Discrete",
    "Likelihood",
    "LikelihoodSettings",
    "PathStatistics",
    "bits_per_dim",
    "decoder_std",
    "divergence",
    "encoder_decoder_bound",
    "forward_divergence",
    "log_likelihood",
    "offset",
    "path_statistics",
    "probe_vectors",
    "sample_with_log_prob",
]
