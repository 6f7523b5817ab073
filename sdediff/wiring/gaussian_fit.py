"""The best denoiser of Gaussian data: what a network has to beat before it shows that it learnt anything."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Up to this number of dimensions, or of rows, the covariance itself is decomposed.
_DENSE = 1024
# Beyond, the most rows that are fitted: a system of their number is solved at each level.
_FEW = 256

Denoiser = Callable[[Tensor, float], Tensor]


def gaussian_denoiser(rows: Tensor) -> Denoiser:
    """E[x0 | x0 + kappa eps] for Gaussian data with the mean and covariance of rows (n, D): f(y (B, D), kappa).

    The covariance is shrunk to its diagonal, w S + (1 - w) diag(S) with w = n/(n + D). float64.
    """
    n, d = rows.shape
    rows = rows if max(n, d) <= _DENSE or d <= _DENSE else rows[:_FEW]
    n = len(rows)
    mean = rows.mean(0)
    rest = rows - mean
    share, diagonal = n / (n + d), (rest**2).sum(0) / max(1, n - 1)
    root = math.sqrt(share / max(1, n - 1)) * rest
    own = (1 - share) * diagonal
    return _dense(mean, root, own) if d <= _DENSE else _wide(mean, root, own)


def _dense(mean: Tensor, root: Tensor, own: Tensor) -> Denoiser:
    """By the eigenvalues of root' root + diag(own)."""
    values, vectors = torch.linalg.eigh(root.T @ root + torch.diag(own))
    values = values.clamp(min=0)

    def denoise(y: Tensor, kappa: float) -> Tensor:
        return mean + ((y - mean) @ vectors * (values / (values + kappa * kappa))) @ vectors.T

    return denoise


def _wide(mean: Tensor, root: Tensor, own: Tensor) -> Denoiser:
    """By Woodbury's identity, a system of as many equations as rows."""

    def denoise(y: Tensor, kappa: float) -> Tensor:
        noise = own + kappa * kappa
        rest = (y - mean) / noise
        small = torch.eye(len(root), dtype=root.dtype) + (root / noise) @ root.T
        inverse = rest - torch.linalg.solve(small, root @ rest.T).T @ root / noise
        return y - kappa * kappa * inverse

    return denoise


def cross_fitted(x: Tensor, others: Tensor) -> list[tuple[Tensor, Denoiser]]:
    """Denoisers for rows x (n, D), each with the numbers of the rows that it was not fitted on.

    Fitted on the other rows (m, D) where there are enough of them, else on these and three quarters of x in turn.
    """
    numbers = torch.arange(len(x))
    if len(others) >= 3 * len(x):
        return [(numbers, gaussian_denoiser(others))]
    parts = [numbers % 4 == k for k in range(4)]
    return [(numbers[part], gaussian_denoiser(torch.cat([others, x[~part]]))) for part in parts if part.any()]
