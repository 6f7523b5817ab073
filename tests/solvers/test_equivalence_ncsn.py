"""NCSN's annealed Langevin as corrector steps on a table: identities to 1e-12."""

import pytest

import sdediff as sd
from tests.solvers.equivalence import NCSN, T1000, Tape, at, ncsn_model, net, one_step, same


@pytest.mark.parametrize("option", [{"step_size": 0.2}, {"epsilon": 2e-5}])
def test_annealed_langevin_is_algorithm_1(option, x):
    # Song and Ermon 2019, algorithm 1 with epsilon = 2e-5, T steps at each of the L levels.
    epsilon, steps = 2e-5, 3
    run = sd.sample(
        ncsn_model(), x=x, solver=sd.solver("annealed_langevin", n=steps, **option), grid="knots",
        noise=Tape(seed=6), denoise=False, full=True,
    )  # fmt: skip
    tape, y = Tape(seed=6), x
    for i, sigma in enumerate(NCSN):
        same(run.trajectory[i] if i < 9 else y, y)
        alpha_i = epsilon * sigma**2 / NCSN[-1] ** 2
        for _ in range(steps):
            y = y + alpha_i / 2 * at(sigma)(y) + alpha_i.sqrt() * tape()
    same(run.x, y)
    assert run.calls == 30


def test_annealed_langevin_in_ncsnv2s_words(x):
    # Song and Ermon 2020, released code: step = lr (sigma_i/sigma_L)^2, x += step s + sqrt(2 step) z, and at
    # the end x += sigma_L^2 s.
    rate = 6.2e-6
    run = sd.sample(
        ncsn_model(), x=x, solver=sd.solver("annealed_langevin", n=2, epsilon=2 * rate), grid="knots",
        noise=Tape(seed=7),
    )  # fmt: skip
    tape, y = Tape(seed=7), x
    for sigma in NCSN:
        step = rate * (sigma / NCSN[-1]) ** 2
        for _ in range(2):
            y = y + step * at(sigma)(y) + (2 * step).sqrt() * tape()
    same(run, y + NCSN[-1] ** 2 * at(NCSN[-1])(y))


def test_score_sdes_ancestral_steps(x):
    # VE: x + (sigma_i^2 - sigma_{i-1}^2) s, std sqrt(sigma_{i-1}^2 (sigma_i^2 - sigma_{i-1}^2)/sigma_i^2).
    up = NCSN.flip(0)
    for i in (9, 4, 1):
        now, before = up[i], up[i - 1]
        found, z = one_step("ancestral", ncsn_model(), x, [i + 1.0, float(i)])
        mean = x + (now**2 - before**2) * at(now)(x)
        same(found, mean + (before**2 * (now**2 - before**2) / now**2).sqrt() * z)
    # VP: (x + beta_i s) / sqrt(1 - beta_i), std sqrt(beta_i): this package's "ddpm".
    table = sd.Table.from_betas(T1000)
    for i in (999, 500, 1):
        found, z = one_step("ddpm", sd.ScoreModel(net, table, predicts="score", time="index"), x, [i + 1.0, i])
        same(found, (x + T1000[i] * at(i)(x)) / (1 - T1000[i]).sqrt() + T1000[i].sqrt() * z, 1e-11)
