"""DPM-Solver++ SDE: its draws, k-diffusion's two substeps, marginals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import sdediff as sd
from sdediff.solvers.singlestep import DPMppSDE
from sdediff.testing.gaussian import exact_moments

F64 = torch.float64


def _two_draws(solver: sd.Solver, noise: str) -> tuple[Tensor, Tensor, Any, Any]:
    """What a step of DPM++ SDE adds to the inner stage and to the end where the network says x0 = 0."""
    seen: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    model = sd.ScoreModel(net, sd.EDM(), predicts="x0")
    x = torch.zeros(2, 100_000, dtype=F64)
    end = sd.sample(model, x=x, solver=solver, grid=[2.0, 0.5], noise=noise, seed=4, denoise=False)
    return seen[1], end, 2.0, 0.5


@pytest.mark.parametrize("noise", ["counter", "brownian"])
@pytest.mark.parametrize("eta", [1.0, 0.6])
def test_dpmpp_sde_draws_the_rises_of_one_path_over_sigma(eta: float, noise: str) -> None:
    inner, end, t, s = _two_draws(DPMppSDE(eta=eta), noise)
    middle = math.sqrt(t * s)
    up = [eta * b * math.sqrt(1 - (b / t) ** 2) for b in (middle, s)]
    for draws, std in zip((inner, end), up, strict=True):
        assert abs(draws.std().item() / std - 1) < 0.01  # s.e. 1 / sqrt(400000) = 0.0016
    shared = (inner * end).mean().item() / (up[0] * up[1])
    assert abs(shared - math.sqrt((t - middle) / (t - s))) < 0.013  # s.e. at most sqrt(2 / 200000) = 0.0032


def test_dpmpp_sde_is_k_diffusions_two_substeps() -> None:
    """Written out with sigma_down and sigma_up on x at alpha = 1, draws as they come."""
    model, times = sd.problem("target_m").model(sd.EDM()), [5.0, 1.2, 0.3]
    x = 5.0 * torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    noise, eta, r = sd.Counter(9), 0.8, 0.4
    solver = DPMppSDE(eta=eta, s_noise=1.1, r=r)
    found = sd.sample(model, x=x, solver=solver, grid=times, noise=noise, denoise=False)
    row = sd.levels(sd.EDM(), times)
    for t, s in itertools.pairwise(row):
        one, two = noise(t, s, x, 0), noise(t, s, x, 1)
        middle = t.sigma ** (1 - r) * s.sigma**r
        # The first draw is the step's rise, so the inner one is its share and something of its own.
        part = (t.sigma - middle) / (t.sigma - s.sigma)
        early = one * math.sqrt(part) + two * math.sqrt(1 - part)
        d, x_in = model(x, t.time).x0, x
        for to, z in ((middle, early), (s.sigma, one)):
            up = eta * math.sqrt(to**2 * (t.sigma**2 - to**2) / t.sigma**2)
            down = math.sqrt(to**2 - up**2)
            x_to = down / t.sigma * x_in + (1 - down / t.sigma) * d + 1.1 * up * z
            d = (1 - 1 / (2 * r)) * d + 1 / (2 * r) * model(x_to, middle).x0 if to == middle else d
            x = x_to
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_dpmpp_sde_reaches_the_marginals_at_second_order() -> None:
    errors = [abs(exact_moments(DPMppSDE(), sd.VP(), n)[1]) for n in (50, 100)]  # type: ignore[index]
    assert math.log2(errors[0] / errors[1]) > 1.8
