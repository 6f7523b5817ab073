"""DDIM and the ancestral step, one deterministic or stochastic step: identities to 1e-12."""

import itertools
import math

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import T1000, at, net, one_step, same, std_of


@pytest.fixture
def step(sde, times_inside):
    """Two times t > s of a process with alpha, sigma and h there."""
    t, s = times_inside(sde, 5)[[3, 1]].tolist()
    here, there = sd.level(sde, t), sd.level(sde, s)
    return here, there, math.log(there.alpha / there.sigma) - math.log(here.alpha / here.sigma)


# --- eta = 0: one deterministic step ------------------------------------------------------------------------------


def test_ddim_is_exponential_euler_is_dpm_solver_1(sde, step, x):
    t, s, h = step
    eps = at(t.time)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    papers = {
        "Song et al. 2020, eq. 12, sigma = 0": s.alpha * x0 + s.sigma * eps,
        "the flow in kappa = sigma/alpha, frozen eps": s.alpha * (x / t.alpha + (s.kappa - t.kappa) * eps),
        "Lu et al. 2022a, eq. 3.7": s.alpha / t.alpha * x - s.sigma * math.expm1(h) * eps,
        "Lu et al. 2022b, eq. 9, k = 1 (UniP-1 too)": s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * x0,
    }
    model = sd.ScoreModel(net, sde)
    for solver in ("ddim", "dpmpp_2m"):  # 2M's first step is order 1
        found, _ = one_step(solver, model, x, [t.time, s.time])
        for formula in papers.values():
            same(found, formula)


def test_euler_in_sigma_is_ddim_on_edms_process(x):
    model = sd.ScoreModel(net, sd.EDM())
    options = {"x": 80 * x, "steps": 12, "full": True}
    same(*(sd.sample(model, solver=s, **options).trajectory for s in ("euler", "ddim")))


def test_ddim_between_a_tables_knots_is_songs(x):
    # Song et al. 2020, eq. 12 with eta = 0 over a strided table, the network's clock counting from 0.
    table = sd.Table.from_betas(T1000)
    bars = torch.cumprod(1 - T1000, 0)
    run = sd.sample(sd.ScoreModel(net, table, time="index"), x=x, solver="ddim", steps=19, full=True, grid="strided")
    index = [999 - 999 * i / 19 for i in range(20)]
    y = x
    for now, then in itertools.pairwise([round(v) for v in index]):
        eps = at(now)(y)
        y = bars[then].sqrt() * (y - (1 - bars[now]).sqrt() * eps) / bars[now].sqrt() + (1 - bars[then]).sqrt() * eps
    same(run.trajectory[-1], y)
    same(run.x, (y - (1 - bars[0]).sqrt() * at(0)(y)) / bars[0].sqrt())


# --- eta = 1: one stochastic step ---------------------------------------------------------------------------------


def test_ancestral_is_ddim_1_is_sde_dpm_solver_1_is_vdms(sde, step, x):
    t, s, h = step
    eps = at(t.time)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    ratio = t.alpha / s.alpha
    kernel = t.sigma**2 - ratio**2 * s.sigma**2
    c = -math.expm1(-2 * h)  # VDM: -expm1(gamma_s - gamma_t), gamma = -2 lam
    ddim_std = math.sqrt(s.sigma**2 / t.sigma**2 * (1 - ratio**2 * s.sigma**2 / t.sigma**2) * t.sigma**2)
    papers = {
        "q(x_s | x_t, x0), Gaussian conditioning": (
            (ratio * s.sigma**2 * x + s.alpha * kernel * x0) / t.sigma**2,
            s.sigma / t.sigma * math.sqrt(kernel),
        ),
        "Lu et al. 2022b, SDE-DPM-Solver++(1)": (
            s.sigma / t.sigma * math.exp(-h) * x - s.alpha * math.expm1(-2 * h) * x0,
            s.sigma * math.sqrt(-math.expm1(-2 * h)),
        ),
        "Kingma et al. 2021, eq. 33": (s.alpha / t.alpha * (x - c * t.sigma * eps), math.sqrt(c) * s.sigma),
        "Song et al. 2020, eq. 12, eta = 1": (
            s.alpha * x0 + math.sqrt(max(s.sigma**2 - ddim_std**2, 0.0)) * eps,
            ddim_std,
        ),
    }
    model = sd.ScoreModel(net, sde)
    for solver in ("ancestral", sd.solver("ddim", eta=1.0)):
        found, z = one_step(solver, model, x, [t.time, s.time])
        for mean, std in papers.values():
            same(found, mean + std * z, 3e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
def test_ddims_eta_scales_the_posteriors_deviation(sde, step, x, eta):
    t, s, h = step
    eps = at(t.time)(x)
    x0 = (x - t.sigma * eps) / t.alpha
    std = eta * s.sigma / t.sigma * math.sqrt(t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2)
    model = sd.ScoreModel(net, sde)
    found, z = one_step(sd.solver("ddim", eta=eta), model, x, [t.time, s.time])
    same(found, s.alpha * x0 + math.sqrt(s.sigma**2 - std**2) * eps + std * z, 3e-12)
    # The same in the family's words: 2 q = -log(1 - eta^2 (1 - e^-2h)).
    q = -0.5 * math.log(1 - eta**2 * (1 - math.exp(-2 * h)))
    family = s.sigma / t.sigma * math.exp(-q) * x + s.alpha * (1 - math.exp(-h - q)) * x0
    same(found, family + s.sigma * math.sqrt(1 - math.exp(-2 * q)) * z, 3e-12)


@pytest.mark.parametrize(("t", "s", "variance"), [(999, 979, 0.329802515556), (20, 0, 9.84135629651e-5)])
def test_ddims_variance_on_the_linear_table(t, s, variance):
    table = sd.Table.from_betas(T1000)
    for eta in (1.0, 0.5, 0.1):
        found = std_of(sd.solver("ddim", eta=eta), table, t + 1.0, s + 1.0)
        assert found**2 == pytest.approx(eta**2 * variance, rel=1e-10)


@pytest.mark.parametrize(
    ("start", "stop", "eta", "down", "up"),
    [
        (10, 5, 1.0, 2.5, 4.33012701892),
        (10, 5, 0.5, 4.50693909433, 2.16506350946),
        (2, 1.9, 1.0, 1.805, 0.593274809848),
        (1, 0.1, 1.0, 0.01, 0.0994987437107),
    ],
)
def test_euler_a_is_ddim_at_alpha_one(start, stop, eta, down, up, x):
    # k-diffusion's get_ancestral_step: an Euler step to sigma_down, then noise of sigma_up.
    model = sd.ScoreModel(net, sd.EDM())
    found, z = one_step(sd.solver("ddim", eta=eta), model, x, [float(start), float(stop)])
    assert std_of(sd.solver("ddim", eta=eta), sd.EDM(), float(start), float(stop)) == pytest.approx(up, rel=1e-10)
    denoised = x - start * at(start)(x)
    euler = x + (x - denoised) / start * (down - start)
    same(found, euler + up * z, 1e-10)
