"""The two ends of the flow: what stands for p_T at one, the heat equation's term at the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level, level
from sdediff.model.data_statistics import Statistics
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

Prior = str | Callable[[Tensor], Tensor]
PRIORS = ("auto", "sigma", "unit", "std", "diagonal", "full")


def prior_name(prior: Prior, model: ScoreModel, shape: tuple[int, ...]) -> str:
    """The prior's word with "auto" resolved: "full" where the model has statistics, else "sigma".

    Refuses a moment-matched prior without statistics, and statistics of samples of another shape.
    """
    if callable(prior):
        return "given"
    if prior not in PRIORS:
        raise ValueError(nearest(prior, PRIORS, "prior"))
    stats = model.stats
    if stats is not None and tuple(stats.mean.shape) != shape:
        raise ValueError(f"the model's statistics are of samples {tuple(stats.mean.shape)}, x has samples {shape}")
    if prior == "auto":
        return "sigma" if stats is None else "full"
    if prior in ("std", "diagonal", "full"):
        _known(model, prior)
    return prior


def log_prior(prior: Prior, model: ScoreModel, x: Tensor) -> Tensor:
    """log density (B,) of states x (B, ...) at T, float64 nats: N(alpha_T m, alpha_T^2 C + sigma_T^2 I) or as named.

    C is the covariance of the model's statistics: isotropic ("std"), "diagonal" or "full". NaN for states that
    are not finite.
    """
    good = torch.isfinite(x).flatten(1).all(1)
    if not bool(good.all()):
        found = torch.full((len(x),), math.nan, dtype=torch.float64, device=x.device)
        found[good] = log_prior(prior, model, x[good]) if bool(good.any()) else found[good]
        return found
    if callable(prior):
        return prior(x).double()
    sde = linear(model.sde)
    name = prior_name(prior, model, tuple(x.shape[1:]))
    if name in ("sigma", "unit"):
        return sde.prior_log_prob(x, name)
    return _matched(_known(model, name), name, level(sde, sde.t_max), x)


def prior_divergence(prior: Prior, model: ScoreModel, mean: Tensor, variance: float) -> Tensor:
    """KL(N(mean, variance I) || prior), (B,) nats, for means (B, ...) and a prior by name."""
    if callable(prior):
        raise ValueError(f"a bound takes its prior by name, one of {', '.join(PRIORS)}: it is integrated exactly")
    dims, name = mean[0].numel(), prior_name(prior, model, tuple(mean.shape[1:]))
    entropy = dims / 2 * (math.log(2 * math.pi * variance) + 1)
    return variance / 2 * _precision(name, model, dims) - log_prior(name, model, mean) - entropy


def prior_sample(prior: Prior, model: ScoreModel, z: Tensor) -> Tensor:
    """States at T under a prior by name, float64, from unit normals z (B, ...)."""
    if callable(prior):
        raise ValueError(f"to draw from a prior give its name, one of {', '.join(PRIORS)}")
    sde = linear(model.sde)
    name, z = prior_name(prior, model, tuple(z.shape[1:])), z.double()
    if name in ("sigma", "unit"):
        return sde.prior_sample(z, name)
    stats = _known(model, name)
    end, flat = level(sde, sde.t_max), z.flatten(1)
    spread = _spread(end)
    if name == "std":
        moved = math.sqrt(spread(stats.std**2)) * flat
    elif name == "diagonal":
        moved = spread(stats.dims.to(z.device).reshape(-1)).sqrt() * flat
    else:
        rest, directions = math.sqrt(spread(stats.rest)), stats.directions.to(z.device)
        more = spread(stats.variances.to(z.device)).sqrt() - rest
        # One product a sample, as in the density.
        moved = torch.stack([rest * row + directions.T @ (more * (directions @ row)) for row in flat])
    return end.alpha * stats.mean.to(z.device) + moved.reshape(z.shape)


def _known(model: ScoreModel, prior: str) -> Statistics:
    """The statistics that a matched prior is made of."""
    if model.stats is None:
        raise ValueError(
            f"prior={prior!r} needs the data's statistics, which this model lacks: "
            'ScoreModel(..., stats=sd.statistics(data)), or write prior="sigma"'
        )
    return model.stats


def _spread(end: Level) -> Callable[[Any], Any]:
    """From the data's variances to those at a level."""
    return lambda variances: end.alpha**2 * variances + end.sigma**2


def _precision(name: str, model: ScoreModel, dims: int) -> float:
    """The trace of the inverse of the prior's covariance."""
    sde = linear(model.sde)
    if name in ("sigma", "unit"):
        return dims / sde.prior_std(name) ** 2
    stats = _known(model, name)
    spread = _spread(level(sde, sde.t_max))
    if name == "std":
        return float(dims / spread(stats.std**2))
    if name == "diagonal":
        return float((1 / spread(stats.dims)).sum())
    return float((1 / spread(stats.variances)).sum() + (dims - len(stats.variances)) / spread(stats.rest))


def _matched(stats: Statistics, name: str, end: Level, x: Tensor) -> Tensor:
    spread = _spread(end)
    flat = x.double().flatten(1) - end.alpha * stats.mean.to(x.device).reshape(-1)
    total, dims = flat.square(), flat.shape[1]
    if name == "std":
        logs, ratio = dims * math.log(spread(stats.std**2)), total.sum(1) / spread(stats.std**2)
    elif name == "diagonal":
        variances = spread(stats.dims.to(x.device).reshape(-1))
        logs, ratio = variances.log().sum().item(), (total / variances).sum(1)
    else:
        directions, variances = stats.directions.to(x.device), spread(stats.variances.to(x.device))
        # One product a sample: the last bits of a matrix product depend on the number of its rows.
        on = torch.stack([directions @ row for row in flat]).square()
        rest, left = spread(stats.rest), dims - len(directions)
        logs = variances.log().sum().item() + left * math.log(rest)
        ratio = (on / variances).sum(1)
        if left:
            ratio = ratio + (total.sum(1) - on.sum(1)) / rest
    return -0.5 * (ratio + logs + dims * math.log(2 * math.pi))


def heat_term(here: Level, score: Tensor, spread: Tensor) -> Tensor:
    """-(sigma^2/2)(tr grad s + |s|^2), what takes log p_{t0} to log p_0 up to sigma^4: (..., B) nats.

    score: s (B, ...) at the un-noised alpha x0; spread: the trace of its Jacobian, (..., B).
    """
    return -(here.sigma**2) / 2 * (spread + score.double().flatten(1).square().sum(1))
