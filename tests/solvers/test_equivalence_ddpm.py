"""DDPM's chain as the ancestral steps of a table: identities to 1e-12."""

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import T1000, Tape, at, net, same, std_of

F64 = torch.float64


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpms_table_ancestral_is_ho_et_als_posterior(variance, x):
    # Ho et al. 2020, eq. 7 and algorithm 2: every knot, the last step without noise.
    betas = torch.linspace(1e-3, 0.15, 60, dtype=F64)
    alphas, bars = 1 - betas, torch.cumprod(1 - betas, 0)
    model = sd.ScoreModel(net, sd.Table.from_betas(betas), time="index")
    run = sd.sample(
        model, x=x, solver=sd.solver("ancestral", variance=variance), grid="knots", noise=Tape(seed=3), full=True
    )
    tape, y = Tape(seed=3), x
    for i in range(59, -1, -1):
        bar, before = bars[i], bars[i - 1] if i else torch.tensor(1.0, dtype=F64)
        x0 = (y - (1 - bar).sqrt() * at(i)(y)) / bar.sqrt()
        posterior = before.sqrt() * betas[i] / (1 - bar) * x0 + alphas[i].sqrt() * (1 - before) / (1 - bar) * y
        algorithm_2 = (y - betas[i] / (1 - bar).sqrt() * at(i)(y)) / alphas[i].sqrt()
        same(posterior, algorithm_2)
        if i:
            std = (betas[i] * ((1 - before) / (1 - bar) if variance == "small" else 1)).sqrt()
            y = posterior + std * tape()
            same(run.trajectory[60 - i], y)
        else:
            y = posterior
    same(run.x, y)
    assert run.calls == 60


def test_the_names_ddpm_and_ancestral_are_the_two_variances():
    assert sd.solver("ddpm") == sd.solver("ancestral", variance="large")
    assert sd.solver("ancestral") == sd.solver("ancestral", variance="small")


def test_ddim_1_over_all_1000_steps_is_ddpm_fixed_small(x):
    model = sd.ScoreModel(net, sd.Table.from_betas(T1000), time="index")
    runs = [
        sd.sample(model, x=x, solver=solver, grid="knots", seed=4)
        for solver in (sd.solver("ddim", eta=1.0), "ancestral")
    ]
    same(*runs)


def test_strided_ancestral_has_the_respaced_betas(x):
    # Nichol and Dhariwal 2021: beta_S = 1 - bar_{S_t} / bar_{S_{t-1}}, and its btilde.
    table, bars = sd.Table.from_betas(T1000), torch.cumprod(1 - T1000, 0)
    for t, s in ((999, 899), (500, 100), (100, 0)):
        beta = 1 - bars[t] / bars[s]
        small, large = ((1 - bars[s]) / (1 - bars[t]) * beta).item(), beta.item()
        assert std_of("ancestral", table, t + 1.0, s + 1.0) ** 2 == pytest.approx(small, rel=1e-11)
        assert std_of("ddpm", table, t + 1.0, s + 1.0) ** 2 == pytest.approx(large, rel=1e-11)
