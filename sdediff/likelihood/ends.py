"""The two ends of the flow: the prior in place of p_T at one, the heat equation's term at the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level
from sdediff.grids.levels import level as level_at
from sdediff.model.data_statistics import Statistics
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

Prior = str | Callable[[Tensor], Tensor]
PRIORS = ("auto", "sigma", "unit", "std", "diagonal", "full")


def prior_name(prior: Prior, model: ScoreModel, shape: tuple[int, ...]) -> str:
    """The prior's name with "auto" resolved: "full" where the model has statistics, else "sigma".

    ValueError for a moment-matched prior without statistics, and for statistics of samples of another shape.
    """
    if callable(prior):
        return "given"
    if not known(prior, PRIORS):
        raise InputError(nearest(prior, PRIORS, "prior"))
    stats = model.stats
    if stats is not None and tuple(stats.mean.shape) != shape:
        raise InputError(f"the model's statistics are of samples {tuple(stats.mean.shape)}, x has samples {shape}")
    if prior == "auto":
        return "sigma" if stats is None else "full"
    if prior in ("std", "diagonal", "full"):
        _statistics(model, prior)
    return prior


def log_prior(prior: Prior, model: ScoreModel, x: Tensor) -> Tensor:
    """log density (B,) of states x (B, ...) at T, float64 nats: N(alpha_T m, alpha_T^2 C + sigma_T^2 I) or as named.

    C is the covariance of the model's statistics: isotropic ("std"), "diagonal" or "full". NaN for states that
    are not finite.
    """
    finite = torch.isfinite(x).flatten(1).all(1)
    if not bool(finite.all()):
        log_prob = torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
        log_prob[finite] = log_prior(prior, model, x[finite]) if bool(finite.any()) else log_prob[finite]
        return log_prob
    if callable(prior):
        values = prior(x)
        if not isinstance(values, Tensor) or values.shape != (len(x),) or values.is_complex():
            raise InputTypeError(f"prior(x) is {shown(values)}: give log densities in nats, a tensor ({len(x)},)")
        return values.double()
    sde = linear(model.sde)
    name = prior_name(prior, model, tuple(x.shape[1:]))
    if name in ("sigma", "unit"):
        return sde.prior_log_prob(x, name)
    return _matched_log_prob(_statistics(model, name), name, level_at(sde, sde.t_max), x)


def prior_divergence(prior: Prior, model: ScoreModel, mean: Tensor, variance: float) -> Tensor:
    """KL(N(mean, variance I) || prior), (B,) nats, for means (B, ...) and a prior by name."""
    if callable(prior):
        raise InputError(f"a bound takes its prior by name, one of {', '.join(PRIORS)}: it is integrated exactly")
    dims, name = mean[0].numel(), prior_name(prior, model, tuple(mean.shape[1:]))
    entropy = dims / 2 * (math.log(2 * math.pi * variance) + 1)
    return variance / 2 * _precision(name, model, dims) - log_prior(name, model, mean) - entropy


def prior_sample(prior: Prior, model: ScoreModel, z: Tensor) -> Tensor:
    """States at T under a prior by name, float64, from unit normals z (B, ...)."""
    if callable(prior):
        raise InputError(f"to draw from a prior give its name, one of {', '.join(PRIORS)}")
    sde = linear(model.sde)
    name, z = prior_name(prior, model, tuple(z.shape[1:])), z.double()
    if name in ("sigma", "unit"):
        return sde.prior_sample(z, name)
    stats = _statistics(model, name)
    end, flat = level_at(sde, sde.t_max), z.flatten(1)
    noised = _noised_variances(end)
    if name == "std":
        centred = math.sqrt(noised(stats.std**2)) * flat
    elif name == "diagonal":
        centred = noised(stats.dims.to(z.device).reshape(-1)).sqrt() * flat
    else:
        rest_std, directions = math.sqrt(noised(stats.rest)), stats.directions.to(z.device)
        excess_std = noised(stats.variances.to(z.device)).sqrt() - rest_std
        # One product a sample, as in the density.
        centred = torch.stack([rest_std * row + directions.T @ (excess_std * (directions @ row)) for row in flat])
    return end.alpha * stats.mean.to(z.device) + centred.reshape(z.shape)


def _statistics(model: ScoreModel, prior: str) -> Statistics:
    """The model's statistics, which a moment-matched prior needs."""
    if model.stats is None:
        raise InputError(
            f"prior={prior!r} needs the data's statistics, which this model lacks: "
            'ScoreModel(..., stats=sd.statistics(data)), or write prior="sigma"'
        )
    return model.stats


def _noised_variances(end: Level) -> Callable[[Any], Any]:
    """The function from variances of the data to those at a level."""
    return lambda variances: end.alpha**2 * variances + end.sigma**2


def _precision(name: str, model: ScoreModel, dims: int) -> float:
    """The trace of the inverse of the prior's covariance."""
    sde = linear(model.sde)
    if name in ("sigma", "unit"):
        return dims / sde.prior_std(name) ** 2
    stats = _statistics(model, name)
    noised = _noised_variances(level_at(sde, sde.t_max))
    if name == "std":
        return float(dims / noised(stats.std**2))
    if name == "diagonal":
        return float((1 / noised(stats.dims)).sum())
    return float((1 / noised(stats.variances)).sum() + (dims - len(stats.variances)) / noised(stats.rest))


def _matched_log_prob(stats: Statistics, name: str, end: Level, x: Tensor) -> Tensor:
    """The log density (B,) of states x under the normal matched to the statistics at T."""
    noised = _noised_variances(end)
    flat = x.double().flatten(1) - end.alpha * stats.mean.to(x.device).reshape(-1)
    squares, dims = flat.square(), flat.shape[1]
    if name == "std":
        log_det, mahalanobis = dims * math.log(noised(stats.std**2)), squares.sum(1) / noised(stats.std**2)
    elif name == "diagonal":
        variances = noised(stats.dims.to(x.device).reshape(-1))
        log_det, mahalanobis = variances.log().sum().item(), (squares / variances).sum(1)
    else:
        directions, variances = stats.directions.to(x.device), noised(stats.variances.to(x.device))
        # One product a sample: the last bits of a matrix product depend on the number of its rows.
        projected = torch.stack([directions @ row for row in flat]).square()
        rest, other_dims = noised(stats.rest), dims - len(directions)
        log_det = variances.log().sum().item() + other_dims * math.log(rest)
        mahalanobis = (projected / variances).sum(1)
        if other_dims:
            mahalanobis = mahalanobis + (squares.sum(1) - projected.sum(1)) / rest
    return -0.5 * (mahalanobis + log_det + dims * math.log(2 * math.pi))


def heat_term(level: Level, score: Tensor, trace: Tensor) -> Tensor:
    """-(sigma^2/2)(tr grad s + |s|^2), the step from log p_{t0} to log p_0 up to sigma^4: (..., B) nats.

    score: s (B, ...) at the un-noised alpha x0; trace: the trace of its Jacobian, (..., B).
    """
    return -(level.sigma**2) / 2 * (trace + score.double().flatten(1).square().sum(1))
