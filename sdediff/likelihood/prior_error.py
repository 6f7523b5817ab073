"""The error of a normal prior in place of p_T."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.likelihood.ends import log_prior, prior_name
from sdediff.likelihood.network import Network
from sdediff.likelihood.whitened import per_row
from sdediff.noise.counter import normals
from sdediff.sde.base import linear

# The priors that take nothing from the data, so that they miss p_T by its mean and covariance; those that take a part.
_PLAIN, _PARTLY = ("sigma", "unit"), ("std", "diagonal")
_STREAM = (0x4D000000, 0)
# Of the differences' standard deviation, so that 95 % lie within.
_SIGMAS = 2.0


@torch.no_grad()
def prior_mismatch(net: Network, last: Level, latent: Tensor, good: np.ndarray) -> Tensor:
    """A bound on |log p_T - log prior| at latents (b, ...), nats; 0 where the prior has the data's mean and covariance.

    Of a prior with a part of the data's covariance: the difference to the one with all of it. Of one that takes
    nothing from the data: under N(0, s^2 I) the variance of h = log p_T - log prior is at most s^2 E|grad h|^2, and
    grad h is the network's score at T plus x/s^2. The mean is taken of the latent and of a draw of the prior: two
    calls. Poincare's inequality: Chernoff 1981.
    """
    name = prior_name(net.task.prior, net.task.model, tuple(latent.shape[1:]))
    if name in _PARTLY:
        whole, part = (log_prior(prior, net.task.model, latent) for prior in ("full", name))
        return (whole - part).abs()
    squares = torch.zeros(len(latent), dtype=torch.float64, device=latent.device)
    if name not in _PLAIN or not good.any():
        return squares
    std = linear(net.task.model.sde).prior_std(name)
    draw = std * torch.from_numpy(normals(net.task.seed, net.index, _STREAM, tuple(latent.shape[1:]))).to(latent)
    # All rows at once, whichever failed: the last bit of a sum depends on the number of rows.
    for x in (latent.nan_to_num(0.0), draw):
        prediction = net.at(x, last, torch.arange(len(x)))
        p, q = prediction.pair("score")
        state = x.to(prediction.raw.dtype).double()
        score = per_row(p, state) * state + per_row(q, state) * prediction.raw.double()
        squares = squares + (score + state / std**2).flatten(1).square().sum(1) / 2
    return _SIGMAS * std * squares.sqrt()
