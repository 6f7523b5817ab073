"""Processes and small problems, and their densities by torch."""

import pytest
import torch

from sdediff.sde.processes import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from sdediff.sde.table import Table
from sdediff.targets import (
    gaussian,
    low_rank_mixture,
    problem,
    target_m,
)

DDPM = Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
NCSN = Table.from_sigmas(torch.logspace(-2, 1, 10, dtype=torch.float64))
PROCESSES = [VP(), SubVP(), VE(), VE(zero_start=True), EDM(), Cosine(), RectifiedFlow(), DDPM, NCSN]
SMALL = {
    "gaussian": problem("gaussian"),
    "target_m": target_m(),
    "ring_unequal": problem("ring_unequal"),
    "low_rank": low_rank_mixture(5, 3, 2, floor=0.1, shape=(1, 5)),
    "no_rank": low_rank_mixture(4, 3, 0, floor=0.5),
}
every_process = pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: repr(s)[:24])


def noised(m, sde, t, n=40, seed=1):
    """States of p_t, and as many away from it, float64."""
    x0 = m.sample(n, dtype=torch.float64)
    z = gaussian(torch.zeros(m.dim), std=1.0, shape=m.shape).sample(n, seed=seed, dtype=torch.float64)
    time = torch.tensor(t, dtype=torch.float64)
    x = sde.alpha(time) * x0 + sde.sigma(time) * z
    return torch.cat([x, x + z])


def dense(m):
    """Every component's covariance as a plain matrix (K, D, D)."""
    if m.basis is None:
        return torch.diag_embed(m.variances)
    return (m.basis * m.variances[:, None]) @ m.basis.mT + m.floor[:, None, None] * torch.eye(m.dim)
