"""Linear chains, whose laws have a closed form: data N(0, 1) under VP, uniform steps in t from 1 to 1e-3."""

from __future__ import annotations

import math

import torch

import sdediff as sd

F64 = torch.float64
SDE = sd.VP()


def denoiser(slope=1.0, shift=0.0):
    """D = slope alpha x + shift; slope 1 and shift 0 is the exact denoiser of N(0, 1) data."""
    return of_alpha(lambda x, alpha: slope * alpha * x + shift)


def of_alpha(denoise):
    """The model whose D is a function of x (B, ...) and of alpha, a column."""
    return sd.ScoreModel(lambda x, alpha: denoise(x, alpha[:, None]), SDE, "x0", lambda level: level.alpha)


EXACT, OTHER = denoiser(), denoiser(1.002, 0.001)


def times(n):
    return torch.linspace(1.0, 1e-3, n + 1, dtype=F64)


def levels(n):
    """(alpha, sigma) of every level, written out from VP's formula."""
    b = [0.1 * t + 19.9 * t**2 / 2 for t in times(n).tolist()]
    return [(math.exp(-v / 2), math.sqrt(-math.expm1(-v))) for v in b]


def factors(n):
    """Of every ancestral step, written out from DDPM's posterior: x_s = a x + b D + c z."""
    rows = []
    for (alpha_t, sigma_t), (alpha_s, sigma_s) in zip(levels(n)[:-1], levels(n)[1:], strict=True):
        ratio = alpha_t / alpha_s
        beta = sigma_t**2 - ratio**2 * sigma_s**2
        rows.append((ratio * sigma_s**2 / sigma_t**2, alpha_s * beta / sigma_t**2, sigma_s / sigma_t * math.sqrt(beta)))
    return rows


def variances(n):
    """The variance of x at every level of the exact chain, begun at N(0, sigma_T^2)."""
    rows = [levels(n)[0][1] ** 2]
    for (a, b, c), (alpha, _) in zip(factors(n), levels(n)[:-1], strict=True):
        rows.append((a + b * alpha) ** 2 * rows[-1] + c**2)
    return rows
