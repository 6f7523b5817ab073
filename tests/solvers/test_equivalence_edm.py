"""EDM, k-diffusion and DPM-Solver++ as steps of one process: identities to 1e-12."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import Tape, at, net, same

F64 = torch.float64


def denoiser(x, sigma):
    return x / (1 + sigma**2) + 0.2 * torch.tanh(x / (1 + sigma))


@pytest.fixture
def edm():
    return sd.ScoreModel(lambda x, t: denoiser(x, t[:, None]), sd.EDM(), predicts="x0", time="sigma")


def test_heun_on_edms_process_is_karras_algorithm_1(edm, x):
    n, rho, low, high = 18, 7, 0.002, 80.0
    sigmas = [(high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(n)]
    y, calls = high * x, 0
    for now, then in itertools.pairwise([*sigmas, 0.0]):
        d = (y - denoiser(y, now)) / now
        moved, calls = y + (then - now) * d, calls + 1
        if then:
            d2 = (moved - denoiser(moved, then)) / then
            moved, calls = y + (then - now) * (d + d2) / 2, calls + 1
        y = moved
    run = sd.sample(edm, x=high * x, solver="heun", steps=17, full=True)
    same(run.x, y)
    assert run.calls == calls == 35


def test_dpmpp_2m_on_edms_process_is_k_diffusions(edm, x):
    n = 12
    sigmas = torch.exp(torch.linspace(math.log(80), math.log(0.002), n, dtype=F64)).tolist()
    y, last, h_last = 80 * x, None, None
    for now, then in itertools.pairwise([*sigmas, 0.0]):
        d = denoiser(y, now)
        if then == 0:
            y = d
            break
        h = math.log(now) - math.log(then)
        bent = d if last is None else (1 + h / (2 * h_last)) * d - h / (2 * h_last) * last
        y, last, h_last = then / now * y - math.expm1(-h) * bent, d, h
    same(sd.sample(edm, x=80 * x, solver="dpmpp_2m", steps=n - 1), y)


@pytest.mark.parametrize("kind", ["karras", "uniform", "log_snr"])
def test_dpmpp_2m_is_lu_et_als_algorithm_2(sde, kind, x):
    # On any process and grid: D = (1 + 1/2r) x0_i - 1/2r x0_{i-1}, r = h_{i-1}/h_i.
    model = sd.ScoreModel(net, sde)
    times = sd.grid(kind, sde, 8, start=sde.t_max)
    run = sd.sample(model, x=x, solver="dpmpp_2m", grid=times, denoise=False)
    y, last, h_last = x, None, None
    for t, s in itertools.pairwise(sd.level(sde, v) for v in times.tolist()):
        h = math.log(s.alpha / s.sigma) - math.log(t.alpha / t.sigma)
        x0 = (y - t.sigma * at(t.time)(y)) / t.alpha
        d = x0 if last is None else x0 + h / (2 * h_last) * (x0 - last)
        y, last, h_last = s.sigma / t.sigma * y - s.alpha * math.expm1(-h) * d, x0, h
    same(run, y, 1e-11)


def test_smalldiffusions_family(edm, x):
    # sigma_p = (sigma_prev / sigma^mu)^(1/(1 - mu)), an Euler step to sigma_p, noise sqrt(sigma_prev^2 - sigma_p^2):
    # (gamma, mu) = (1, 0) is DDIM, (1, 1/2) DDPM; (2, 0) adds momentum in eps, here as a user's solver.
    sigmas = sd.grid("karras", sd.EDM(), 9).tolist()

    def smalldiffusion(gamma, mu, tape):
        y, before = 80 * x, None
        for now, then in itertools.pairwise(sigmas):
            eps = (y - denoiser(y, now)) / now
            average = eps if before is None else gamma * eps + (1 - gamma) * before
            to = (then / now**mu) ** (1 / (1 - mu))
            y = y - (now - to) * average + math.sqrt(then**2 - to**2) * tape()
            before = eps
        return y

    @dataclass(frozen=True)
    class Accelerated(sd.Solver):
        def step(self, model, x, t, s, state, noise):
            eps = model(x, t).eps
            return x + (s.sigma - t.sigma) * (eps if state is None else 2 * eps - state), eps

    for solver, gamma, mu in (("ddim", 1, 0), ("ancestral", 1, 0.5), (Accelerated(), 2, 0)):
        found = sd.sample(edm, x=80 * x, solver=solver, steps=9, noise=Tape(seed=9), denoise=False)
        same(found, smalldiffusion(gamma, mu, Tape(seed=9)), 1e-11)
