"""Song et al. 2021: reverse diffusion, Euler-Maruyama, Langevin, predictor-corrector: identities to 1e-12."""

import itertools
import math

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import NCSN, T1000, Ones, Tape, at, ncsn_model, net, one_step, same, table

F64 = torch.float64


def test_reverse_diffusion_on_a_vp_table(x):
    # sampling.py, VPSDE.discretize: f = (sqrt(1 - beta_i) - 1) x, G = sqrt(beta_i); x - f + G^2 s + G z.
    table = sd.Table.from_betas(T1000)
    model = sd.ScoreModel(net, table, predicts="score", time="index")
    for i in (999, 600, 1):
        found, z = one_step("reverse_diffusion", model, x, [i + 1.0, i])
        f, g = ((1 - T1000[i]).sqrt() - 1) * x, T1000[i].sqrt()
        same(found, x - f + g**2 * at(i)(x) + g * z)


def test_reverse_diffusion_on_a_ve_table(x):
    # VESDE.discretize: f = 0, G = sqrt(sigma_i^2 - sigma_{i-1}^2), sigma_{-1} = 0 in the last, noiseless step.
    run = sd.sample(ncsn_model(), x=x, solver="reverse_diffusion", grid="knots", noise=Tape(seed=2), full=True)
    tape, y = Tape(seed=2), x
    sigmas = [*NCSN.tolist(), 0.0]
    for i, (now, before) in enumerate(itertools.pairwise(sigmas)):
        same(run.trajectory[i], y)
        g2 = now**2 - before**2
        y = y + g2 * at(now)(y)
        if before:
            y = y + math.sqrt(g2) * tape()
    same(run.x, y)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["vp", "ve", "subvp"])
def test_euler_maruyama_is_the_euler_discretisation(processes, name, eta, x):
    # x + [f - (1 + eta^2)/2 g^2 s] dt + eta g sqrt(-dt) z with the papers' f and g.
    t, s = 0.8, 0.7
    beta, total = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
    f, g2 = {
        "vp": (-beta / 2, beta),
        "subvp": (-beta / 2, beta * -math.expm1(-2 * total)),
        "ve": (0.0, 2 * math.log(5000) * (0.01 * 5000**t) ** 2),
    }[name]
    model = sd.ScoreModel(net, processes[name], predicts="score")
    found, z = one_step(sd.solver("euler_maruyama", eta=eta), model, x, [t, s])
    dt = s - t
    expected = x + (f * x - (1 + eta**2) / 2 * g2 * at(t)(x)) * dt + eta * math.sqrt(g2 * -dt) * z
    same(found, expected, 1e-11)


@pytest.mark.parametrize("norm", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["ve", "vp"])
def test_langevins_step_is_songs(norm, kind, x):
    # e = 2 a (snr |z| / |s|)^2, norms a sample, averaged over the batch in the released code; a = 1 - beta_i.
    if kind == "ve":
        model, i, a, clock = ncsn_model(), 6, 1.0, NCSN.flip(0)[6]
    else:
        model = sd.ScoreModel(net, sd.Table.from_betas(T1000), predicts="score", time="index")
        i, a, clock = 700, 1 - T1000[700].item(), 700
    corrector = sd.solver("langevin", snr=0.16, n=2, norm=norm)
    levels, _, bound = table(corrector, model, [i + 1.0, float(i)], x)
    found, _ = corrector.step(bound, x, levels[0], levels[0], None, Tape(seed=1))
    tape, y = Tape(seed=1), x
    for _ in range(2):
        score, z = at(clock)(y), tape()
        sizes = [torch.sqrt((v**2).sum(1)) for v in (z, score)]
        if norm == "batch":
            sizes = [v.mean() for v in sizes]
        e = (2 * a * (0.16 * sizes[0] / sizes[1]) ** 2).reshape(-1, 1)
        y = y + e * score + torch.sqrt(2 * e) * z
    same(found, y)


def test_langevins_step_for_equal_norms():
    # snr .16 and |z| = |s|: e = .0512 and a noise coefficient of .32.
    model, x = sd.ScoreModel(lambda x, t: torch.ones_like(x), sd.VE(), predicts="score"), torch.zeros(2, 5, dtype=F64)
    for norm in ("batch", "sample"):
        corrector = sd.solver("langevin", norm=norm)
        levels, _, bound = table(corrector, model, [0.5, 0.4], x)
        found, _ = corrector.step(bound, x, levels[0], levels[0], None, Ones())
        same(found, torch.full((2, 5), 0.0512 + 0.32, dtype=F64))


@pytest.mark.parametrize("norm", ["batch", "sample"])
def test_langevin_does_not_divide_by_a_score_of_zero(norm):
    # A network at its zero initialisation says eps = 0 everywhere.
    model = sd.ScoreModel(lambda x, t: 0 * x, sd.VP())
    corrector = sd.solver("langevin", norm=norm)
    for solver in (corrector, sd.solver("predictor_corrector", corrector=corrector)):
        assert sd.sample(model, x=torch.ones(2, 3), solver=solver, steps=3).isfinite().all()


@pytest.mark.parametrize("first", ["corrector", "predictor"])
@pytest.mark.parametrize("n", [1, 2])
def test_predictor_corrector_in_the_papers_and_the_codes_order(first, n, x):
    # Paper, algorithm 2 (VE): predict x_i from x_{i+1}, then correct at sigma_i. Released code: correct at
    # sigma_{i+1}, then predict. Both end with a predictor's mean or a denoising step; here without.
    solver = sd.solver("predictor_corrector", corrector=sd.solver("langevin", n=n, norm="batch"), first=first)
    run = sd.sample(ncsn_model(), x=x, solver=solver, grid="knots", noise=Tape(seed=8), denoise=False)
    tape, y = Tape(seed=8), x

    def corrected(y, sigma):
        for _ in range(n):
            score, z = at(sigma)(y), tape()
            e = 2 * (0.16 * (z**2).sum(1).sqrt().mean() / (score**2).sum(1).sqrt().mean()) ** 2
            y = y + e * score + (2 * e).sqrt() * z
        return y

    for now, then in itertools.pairwise(NCSN):
        if first == "corrector":
            y = corrected(y, now)
        g2 = now**2 - then**2
        y = y + g2 * at(now)(y) + g2.sqrt() * tape()
        if first == "predictor":
            y = corrected(y, then)
    same(run, y)


def test_a_correctors_vp_scale_is_one_minus_beta_at_every_knot():
    # a = (alpha_t / alpha_next)^2 = 1 - beta_i, and at the last knot 1 - beta_0 (the step into data).
    betas = torch.tensor([0.02, 0.1, 0.3], dtype=F64)
    model = sd.ScoreModel(lambda x, t: torch.ones_like(x), sd.Table.from_betas(betas), predicts="score")
    corrector, x = sd.solver("langevin", norm="sample"), torch.zeros(1, 4, dtype=F64)
    levels, _, bound = table(corrector, model, [3.0, 2.0, 1.0], x)
    for stay, beta in zip(levels, betas.flip(0).tolist(), strict=True):
        found, _ = corrector.step(bound, x, stay, stay, None, Ones())
        e = 2 * (1 - beta) * 0.16**2
        same(found, torch.full((1, 4), e + math.sqrt(2 * e), dtype=F64))
