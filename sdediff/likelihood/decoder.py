"""p(x0 | x_t) at the clean end: the probability of integer levels, or the density of continuous data."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.likelihood.task import Task
from sdediff.likelihood.units import Discrete
from sdediff.noise.counter import normals

_STREAM = (0x4C000000, 0)


def gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor | float, bins: Discrete | None) -> Tensor:
    """log N(x; mean, std^2), or of its integral over the bin of x, open at both ends: (B,) nats, float64.

    Ho et al. 2020, eq. 13, with the exact error function. x, mean (B, ...); log_std a number or shaped like x.
    """
    std = torch.as_tensor(log_std, dtype=torch.float64).exp()
    residual = x.double() - mean.double()
    if bins is None:
        log_prob = -(residual / std).square() / 2 - std.log() - math.log(2 * math.pi) / 2
        return log_prob.expand_as(residual).flatten(1).sum(1)
    first, last = bins.values[0].item(), bins.values[-1].item()
    high, low = (residual + bins.width / 2) / std, (residual - bins.width / 2) / std
    quarter = bins.width / 4
    high = torch.where(x > last - quarter, math.inf, high)
    low = torch.where(x < first + quarter, -math.inf, low)
    # On the side where both tails are small, so that nothing cancels.
    flip = low > 0
    high, low = torch.where(flip, -low, high), torch.where(flip, -high, low)
    above, below = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return (above + torch.log(-torch.expm1(below - above))).flatten(1).sum(1)


def level_log_prob(x: Tensor, noised: Tensor, level: Level, bins: Discrete | None) -> Tensor:
    """log p(x | x_t) of the posterior with a flat prior over the levels, or over all numbers: (B,) nats, float64.

    Softmax of log N(x_t; alpha v_k, sigma^2) over the values v_k; N(x; x_t/alpha, sigma^2/alpha^2) where the data are
    continuous. Kingma et al. 2021, eq. 11.
    """
    if bins is None:
        return gaussian_log_prob(x, noised.double() / level.alpha, math.log(level.kappa), None)
    z = noised.double()

    def log_weight(value: Tensor | float) -> Tensor:
        return -((z - level.alpha * value) / level.sigma).square() / 2

    total = torch.full_like(z, -math.inf)
    for value in bins.values.tolist():  # one level at a time: 256 at once would not fit into memory
        total = torch.logaddexp(total, log_weight(value))
    return (log_weight(x.double()) - total).flatten(1).sum(1)


def flow_start(task: Task, x: Tensor, index: np.ndarray, level: Level) -> tuple[Tensor, dict[str, Tensor]]:
    """The state at which the flow of x (b, ...) starts at t0, float64, and the terms to add to log p_{t0} there.

    "noised": E_q[log p_{t0}(x_t0) + log p(x0 | x_t0) - log q(x_t0 | x0)] by one draw of q, the last two as "decoder"
    and "entropy". Without the entropy the result would not be a bound.
    """
    x = x.double()
    if task.end != "noised":
        return x * (level.alpha if task.end == "heat" else 1.0), {}
    z = torch.from_numpy(normals(task.seed, index, _STREAM, tuple(x.shape[1:]))).to(x)
    start = level.alpha * x + level.sigma * z
    entropy = z.flatten(1).square().sum(1) / 2 + x[0].numel() * (math.log(level.sigma) + math.log(2 * math.pi) / 2)
    return start, {"decoder": level_log_prob(x, start, level, task.discrete), "entropy": entropy}
