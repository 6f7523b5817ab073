"""The error of a plain normal prior in place of p_T."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.likelihood.ends import prior_name
from sdediff.likelihood.network import Network
from sdediff.likelihood.whitened import per_row
from sdediff.noise.counter import normals
from sdediff.sde.base import linear

# The priors that take nothing from the data, so that they miss p_T by its mean and covariance.
_PLAIN = ("sigma", "unit")
_STREAM = (0x4D000000, 0)
# Of the differences' standard deviation, so that 95 % lie within.
_SIGMAS = 2.0


@torch.no_grad()
def prior_mismatch(net: Network, last: Level, latent: Tensor, good: np.ndarray) -> Tensor:
    """A bound on |log p_T - log prior| at latents (b, ...), nats, where the prior takes nothing from the data; else 0.

    Under N(0, s^2 I) the variance of h = log p_T - log prior is at most s^2 E|grad h|^2, and grad h is the network's
    score at T plus x/s^2. The mean is taken of the latent and of a draw of the prior: two calls. Poincare's
    inequality: Chernoff 1981.
    """
    error = torch.zeros(len(latent), dtype=torch.float64, device=latent.device)
    name = prior_name(net.task.prior, net.task.model, tuple(latent.shape[1:]))
    if name not in _PLAIN or not good.any():
        return error
    rows = torch.from_numpy(np.flatnonzero(good))
    pick, std = rows.to(latent.device), linear(net.task.model.sde).prior_std(name)
    index = net.index[rows.numpy()]
    draw = std * torch.from_numpy(normals(net.task.seed, index, _STREAM, tuple(latent.shape[1:]))).to(latent)
    squares = torch.zeros(len(rows), dtype=torch.float64, device=latent.device)
    for x in (latent[pick], draw):
        prediction = net.at(x, last, rows)
        p, q = prediction.pair("score")
        state = x.to(prediction.raw.dtype).double()
        score = per_row(p, state) * state + per_row(q, state) * prediction.raw.double()
        squares = squares + (score + state / std**2).flatten(1).square().sum(1) / 2
    error[pick] = _SIGMAS * std * squares.sqrt()
    return error
