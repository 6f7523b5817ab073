"""The posterior of a mixture of Gaussians under a linear measurement with Gaussian noise: again a mixture."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff._utils.tensors import times64
from sdediff.targets.gaussian_mixture import Mixture


def posterior(mixture: Mixture, matrix: Any, y: Any, noise: float) -> tuple[Mixture, float]:
    """p(x0 | y) for y = A x0 + N(0, noise^2 I), and log p(y), nats; A (M, D), y (M,), noise > 0.

    With S_k = A C_k A^T + noise^2 I and K = C_k A^T S_k^-1: weights ~ w_k N(y; A m_k, S_k), means m_k + K (y - A m_k),
    covariances C_k - K A C_k. Raises ValueError where shapes do not fit.
    """
    a, y = times64(matrix), times64(y)
    if a.ndim != 2 or a.shape[1] != mixture.dim or y.shape != (len(a),):
        raise InputError(f"needed are A (M, {mixture.dim}) and y (M,), given {tuple(a.shape)} and {tuple(y.shape)}")
    if not number("noise", noise) > 0:
        raise InputError(f"noise={noise}: the posterior of an exact measurement has no density, give a positive one")
    logs, means, bases, variances, floors = [], [], [], [], []
    identity = torch.eye(mixture.dim).double()
    for k, (weight, mean) in enumerate(zip(mixture.weights, mixture.means, strict=True)):
        cov = mixture.apply_covariance(k, identity, lambda c: c)
        of_y = a @ cov @ a.T + noise**2 * torch.eye(len(a)).double()
        gain = torch.linalg.solve(of_y, a @ cov).T
        residual = y - a @ mean
        log_det = torch.linalg.slogdet(of_y)[1]
        density = residual @ torch.linalg.solve(of_y, residual) + log_det + len(a) * math.log(2 * math.pi)
        logs.append(torch.log(weight) - 0.5 * density)
        means.append(mean + gain @ residual)
        left = cov - gain @ a @ cov
        values, vectors = torch.linalg.eigh((left + left.T) / 2)
        floors.append(values[0])
        variances.append((values - values[0]).clamp(min=0))
        bases.append(vectors)
    evidence = torch.logsumexp(torch.stack(logs), 0)
    weights = _positive(torch.exp(torch.stack(logs) - evidence))
    m, v, u, floor = (torch.stack(rows) for rows in (means, variances, bases, floors))
    return Mixture(weights, m, v, u, floor, mixture.shape), evidence.item()


def _positive(weights: Tensor) -> Tensor:
    """Weights of at least the smallest number that a mixture bears."""
    return weights.clamp(min=torch.finfo(weights.dtype).tiny)
