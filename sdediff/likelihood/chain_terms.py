"""The terms of the bound of an ancestral chain, of numbers or (B,) tensors: one place for likelihoods and training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.tensors import per_sample

# Scale and variance of q(x_t | data) at a level.
Kernel = tuple[Any, Any]


class Posterior(NamedTuple):
    """q(x_s | x_t, data): its variance `small`, that of q(x_t | x_s) rescaled, `large`, and the data's weight in the
    mean. DDPM's btilde, beta and sqrt(alpha_bar_s) beta/(1 - alpha_bar_t).
    """

    small: Any
    large: Any
    weight: Any


def posterior(t: Kernel, s: Kernel) -> Posterior:
    """The posterior of a step from t down to s. Ho et al. 2020, eq. 7."""
    (scale, variance), (scale_s, variance_s) = t, s
    noise = variance - (scale / scale_s) ** 2 * variance_s
    return Posterior(noise * variance_s / variance, noise, noise * scale_s / variance)


def step_divergence(squared: Tensor, small: Any, log_variance: Any) -> Tensor:
    """KL(N(m, small I) || N(m', exp(log_variance))) of each sample (b,), nats, float64.

    squared: |m - m'|^2 by element (b, ...); small: a number or (b,); log_variance: a number, (b,) or like squared.
    """
    log_small = math.log(small) if isinstance(small, float) else per_sample(torch.log(small), squared)
    if not isinstance(log_variance, Tensor):
        log_variance = torch.as_tensor(log_variance, dtype=torch.float64)
    log_variance = log_variance.double()
    ratio = log_small - log_variance
    per_dim = (ratio.exp() - 1 - ratio + squared * (-log_variance).exp()) / 2
    return per_dim.expand_as(squared).flatten(1).sum(1)


def decoder_variances(last: Kernel, above: Kernel | None, large: bool) -> tuple[Any, Any]:
    """The variances small and large of p(data | x_t) at the last level: beta_1, clipped to btilde_2 where it is small.

    above: the level before, None for a chain of one. Ho et al. 2020; Nichol and Dhariwal 2021.
    """
    scale, variance = last
    if above is None:
        return variance / scale**2, variance / scale**2
    small = posterior(above, last).small
    return small, small if large else variance
