"""The Frechet distance between Gaussians fitted to named features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.metrics.estimates import Estimate, checked, spread
from sdediff.metrics.features import features_of


def frechet(x: Any, y: Any, features: str | Callable[[Tensor], Tensor] = "pca64") -> Estimate:
    """Squared Frechet distance between Gaussians fitted to named features of samples x and reference y.

    x (N, *shape), y (M, *shape). features: "pixels", "pcaK" (the K leading components of y, fewer where y
    has fewer values), "classifier" (of 8x8 digits), "inception:FILE" (weights as TorchScript, states in [-1, 1]: the
    one that is called fid), or a callable (B, *shape) -> (B, F); the name carries them.
    |m1 - m2|^2 + tr(C1 + C2) - 2 |C1^(1/2) C2^(1/2)|_nuclear >= 0 (Dowson, Landau 1982), in units of
    features squared. Biased upwards by about (F^2 + 5 F)/(2 N) variances at N = M, more for K << D.
    InputError: different shapes, 0.9 N <= F, NaN or Inf, unknown features, a module in train mode.
    """
    first, second, name = features_of(*checked(x, y), features)
    size = min(len(first), len(second))
    if size < (needs := math.floor(first.shape[1] / 0.9) + 2):
        raise InputError(f"frechet[{name}] needs {needs} samples a set, given {size}: try 'pca{size // 10}'")
    pooled = torch.cat([first, second])

    def statistic(*masks: np.ndarray) -> float:
        (m1, r1), (m2, r2) = (_moments(pooled[torch.from_numpy(mask).to(pooled.device)]) for mask in masks)
        # Singular values of the product of the roots: eigenvalues of C1 C2 would lose half of the digits.
        overlap = torch.linalg.svdvals(r1.T @ r2).sum()
        return max(float((m1 - m2).square().sum() + r1.square().sum() + r2.square().sum() - 2 * overlap), 0.0)

    found = spread(statistic, len(first), len(second))
    bounds = found.interval(_steepest(first, second))
    label = "fid" if name == "inception" else f"frechet[{name}]"
    return Estimate(found.value, math.sqrt(found.variance), label, bounds)


def _steepest(x: Tensor, y: Tensor) -> float:
    """The most that the variance's linear part can be over the distance, of laws that differ in their means.

    The distance |d|^2 has the part 4 (1/n + 1/m) d^T C d. Of normal laws that differ in their covariances it is less.
    """
    roots = [_moments(v)[1] for v in (x, y)]
    return 4 * (1 / len(x) + 1 / len(y)) * float(torch.linalg.svdvals(torch.cat(roots, dim=1))[0]) ** 2 / 2


def _moments(v: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) and a root R of the covariance R R^T of rows (N, F)."""
    mean = v.mean(dim=0)
    covariance = (v - mean).T @ (v - mean) / (len(v) - 1)
    root, singular = torch.linalg.cholesky_ex(covariance)
    if not singular:
        return mean, root
    values, vectors = torch.linalg.eigh(covariance)
    return mean, vectors * values.clamp(min=0).sqrt()
