"""Exact statistics and priors of problems, and tight tolerances."""

import dataclasses

import torch

import sdediff as sd

TIGHT = {"rtol": 1e-8, "atol": 1e-8, "nodes": 5, "trace": "exact"}


def stats_of(problem):
    """The exact statistics of a mixture, not a sample's."""
    values, vectors = torch.linalg.eigh(problem.cov)
    dims = problem.cov.diagonal().reshape(problem.shape)
    return sd.Statistics(problem.mean, dims, vectors.T.contiguous(), values, values[0].item())


def with_stats(problem, sde):
    return dataclasses.replace(problem.model(sde), stats=stats_of(problem))


def true_prior(problem, sde):
    return lambda z: problem.log_prob(z, sde, sde.t_max)
