"""p(x0 | x_t) at the clean end: the probability of integer levels, or the density of continuous data."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.likelihood.settings import Settings
from sdediff.likelihood.units import Discrete
from sdediff.noise.counter import normals

_STREAM = (0x4C000000, 0)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor | float, bins: Discrete | None) -> Tensor:
    """log N(x; mean, std^2), or of its integral over the bin of x, open at both ends: (B,) nats, float64.

    Ho et al. 2020, eq. 13, with the exact error function. x, mean (B, ...); log_std a number or shaped like x.
    """
    std = torch.as_tensor(log_std, dtype=torch.float64).exp()
    away = x.double() - mean.double()
    if bins is None:
        found = -(away / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2
        return found.expand_as(away).flatten(1).sum(1)
    first, last = bins.values[0].item(), bins.values[-1].item()
    high, low = (away + bins.width / 2) / std, (away - bins.width / 2) / std
    quarter = bins.width / 4
    high = torch.where(x > last - quarter, math.inf, high)
    low = torch.where(x < first + quarter, -math.inf, low)
    # On the side where both tails are small, so that nothing cancels.
    flip = low > 0
    high, low = torch.where(flip, -low, high), torch.where(flip, -high, low)
    above, below = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return (above + torch.log(-torch.expm1(below - above))).flatten(1).sum(1)


def level_log_prob(x: Tensor, noised: Tensor, here: Level, bins: Discrete | None) -> Tensor:
    """log p(x | x_t) of the posterior with a flat prior: over the levels, or over all numbers, (B,) nats, float64.

    Softmax of log N(x_t; alpha v_k, sigma^2) over the values v_k; N(x; x_t/alpha, sigma^2/alpha^2) where data are
    continuous. Kingma et al. 2021, eq. 11.
    """
    if bins is None:
        return gaussian_log_prob(x, noised.double() / here.alpha, math.log(here.kappa), None)
    z = noised.double()

    def log_weight(value: Tensor | float) -> Tensor:
        return -((z - here.alpha * value) / here.sigma).square() / 2

    total = torch.full_like(z, -math.inf)
    for value in bins.values.tolist():  # one level at a time: 256 at once would not fit
        total = torch.logaddexp(total, log_weight(value))
    return (log_weight(x.double()) - total).flatten(1).sum(1)


def beginning(job: Settings, x: Tensor, index: np.ndarray, here: Level) -> tuple[Tensor, dict[str, Tensor]]:
    """Where the flow of x (b, ...) begins at t0, float64, and the terms between log p_{t0} there and what is asked.

    "noised": E_q[log p_{t0}(x_t0) + log p(x0 | x_t0) - log q(x_t0 | x0)] by one draw of q, the last two as "decoder"
    and "entropy". Without the entropy the bound is no bound.
    """
    x = x.double()
    if job.end != "noised":
        return x * (here.alpha if job.end == "heat" else 1.0), {}
    z = torch.from_numpy(normals(job.seed, index, _STREAM, tuple(x.shape[1:]))).to(x)
    begin = here.alpha * x + here.sigma * z
    surprise = z.flatten(1).square().sum(1) / 2 + x[0].numel() * (math.log(here.sigma) + math.log(2 * math.pi) / 2)
    return begin, {"decoder": level_log_prob(x, begin, here, job.discrete), "entropy": surprise}
