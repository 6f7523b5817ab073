"""Measurements of mixtures whose posterior is known."""

from __future__ import annotations

import torch
from torch import Tensor

import sdediff as sd

F64 = torch.float64
I8 = torch.arange(8, dtype=F64)


def eight() -> sd.targets.Mixture:
    """Three Gaussians in eight dimensions: m_k = cos(k + i), C_k = (.1 + .05 k) I + .1 a a^T, a = sin(i + k)."""
    means, parts = torch.stack([torch.cos(k + I8) for k in range(3)]), []
    for k in range(3):
        a = torch.sin(I8 + k)
        values, vectors = torch.linalg.eigh((0.1 + 0.05 * k) * torch.eye(8, dtype=F64) + 0.1 * torch.outer(a, a))
        parts.append(((values - values[0]).clamp(min=0), vectors, values[0]))
    variances, bases, floors = (torch.stack(v) for v in zip(*parts, strict=True))
    return sd.targets.Mixture(torch.tensor([0.2, 0.3, 0.5], dtype=F64), means, variances, bases, floors)


FIRST = torch.tensor([[1.0, 0.0]], dtype=F64)
COSINES = torch.stack([torch.cos((j + 1) * I8) / 2 for j in range(3)])


def problem(noise: float = 0.2, y: float = 0.9) -> sd.inverse.Problem:
    """The first coordinate of target M."""
    return sd.inverse.Problem(sd.inverse.Matrix(FIRST), torch.tensor([y], dtype=F64), noise)


def model(sde: sd.LinearSDE | None = None) -> sd.ScoreModel:
    return sd.target("target_m").model(sd.VP() if sde is None else sde)


def bias(x: Tensor, exact: sd.targets.Mixture) -> tuple[float, float]:
    """The distance of the means, and the ratio of the traces of the covariances."""
    x = x.double()
    return (x.mean(0) - exact.mean).norm().item(), (torch.cov(x.T).trace() / exact.cov.trace()).item()
