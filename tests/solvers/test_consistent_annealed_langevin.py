"""Consistent annealed Langevin."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import sdediff as sd
from sdediff.solvers.langevin import ConsistentAnnealedLangevin
from tests.solvers.noise_injection import NCSN, first_states, model_on, run_on

F64 = torch.float64


def test_consistent_annealed_langevin_of_the_paper() -> None:
    """Jolicoeur-Martineau et al. 2021, algorithm 2: x + eta sigma_i^2 score + beta sigma_(i+1) z."""
    sigmas, eta = [10 * 0.9**i for i in range(12)], 0.2
    sde = sd.Table.from_sigmas(sigmas[::-1])
    model, x, noise = model_on(sde), first_states(sde), sd.Counter(8)
    found = run_on(sde, ConsistentAnnealedLangevin(eta), "knots", noise=noise)
    row = sd.levels(sde, sd.grid("knots", sde))
    beta = math.sqrt(1 - ((1 - eta) / 0.9) ** 2)
    assert beta == pytest.approx(0.458122847291, rel=1e-10)
    for t, s in itertools.pairwise(row):
        x = x + eta * t.sigma**2 * model(x, t).score + beta * s.sigma * noise(t, s, x)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


def test_consistent_annealed_langevin_takes_a_point_exactly_to_its_marginals() -> None:
    """Data at 0: the noise of x_t and the step's own make up exactly sigma_s, on any path."""
    for sde in (sd.VP(), NCSN):
        model = sd.ScoreModel(lambda x, _: torch.zeros_like(x), sde, predicts="x0")
        times = sd.grid("log_snr", sde, 40)
        t, s = sd.levels(sde, times[:2])
        eta = 1 - 0.9 * s.kappa / t.kappa
        x = sd.sample(model, x=torch.ones(1, 1, dtype=F64), solver=ConsistentAnnealedLangevin(eta), grid=times[:2],
                      denoise=False, noise=sd.Counter(0))  # fmt: skip
        kept = (1 - eta) * s.alpha / t.alpha
        z = sd.Counter(0)(t, s, torch.ones(1, 1, dtype=F64))
        added = (x - kept).item() / z.item()
        assert (kept * t.sigma) ** 2 + added**2 == pytest.approx(s.sigma**2, rel=1e-10)


def test_consistent_annealed_langevin_by_default_is_the_ancestral_step() -> None:
    for sde in (sd.VP(), sd.EDM()):
        times = sd.grid("log_snr", sde, 9)
        a, b = (run_on(sde, sd.solver(n), times) for n in ("consistent_annealed_langevin", "ancestral"))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_consistent_annealed_langevin_refuses_steps_that_are_too_long() -> None:
    with pytest.raises(sd.SolverError, match="1 - eta < gamma"):
        run_on(sd.EDM(), ConsistentAnnealedLangevin(0.05), "karras", steps=20)
