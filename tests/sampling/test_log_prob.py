"""`log_prob="steps"`: the log density of each step of a run, and what has none."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import sdediff as sd
from sdediff.solvers import LowerOrderFinal
from tests.solvers.equivalence import net

MODEL = sd.ScoreModel(net, sd.VP())
NAMES = (
    "ancestral",
    "ddpm",
    "euler_maruyama",
    "dpm2_ancestral",
    "dpmpp_3m_sde",
    "er_sde",
    "consistent_annealed_langevin",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_densities_visits_the_states_of_one_without(name):
    plain = sd.sample(MODEL, (5, 3), solver=name, steps=6, seed=2, full=True)
    run = sd.sample(MODEL, (5, 3), solver=name, steps=6, seed=2, log_prob="steps")
    assert torch.equal(run.trajectory, plain.trajectory)
    assert torch.equal(run.x, plain.x)
    assert run.calls == plain.calls
    assert run.solver == plain.solver == sd.solver(name)
    assert plain.log_prob is None
    assert run.log_prob.shape == (6, 5)
    assert run.log_prob.dtype is torch.float64


def test_the_densities_are_those_of_the_noise_drawn():
    """log q = -|z|^2/2 - d log(std sqrt(2 pi)), by DDPM's formula for std."""
    table = sd.Table.from_betas(torch.linspace(1e-3, 0.4, 10, dtype=torch.float64))
    model = sd.ScoreModel(net, table, time="index")
    run = sd.sample(model, (4, 3), solver="ddpm", grid="knots", seed=5, dtype=torch.float64, log_prob="steps")
    levels = sd.levels(table, run.times)
    for i, (t, s) in enumerate(itertools.pairwise(levels)):
        z = sd.Counter(5)(t, s, run.trajectory[i])
        beta = torch.tensor(1 - (t.alpha / s.alpha) ** 2, dtype=torch.float64)
        expected = -(z**2).sum(1) / 2 - 1.5 * torch.log(2 * torch.pi * beta)
        torch.testing.assert_close(run.log_prob[i], expected, rtol=0, atol=1e-10)


def test_a_corrector_and_a_solver_of_falling_order_have_a_density_a_step():
    langevin = sd.solver("annealed_langevin", n=1)
    assert sd.sample(MODEL, (2, 3), solver=langevin, steps=4, log_prob="steps").log_prob.shape == (5, 2)
    falling = LowerOrderFinal(sd.solver("dpmpp_2m_sde"))
    assert sd.sample(MODEL, (2, 3), solver=falling, steps=4, log_prob="steps").log_prob.shape == (4, 2)


def test_a_learned_variance_is_the_densitys():
    def learned(x, t):
        return torch.cat([net(x, t), torch.tanh(x)], 1)

    table = sd.Table.from_betas(torch.linspace(1e-3, 0.4, 10, dtype=torch.float64))
    model = sd.ScoreModel(learned, table, time="index")
    solver = sd.solver("ancestral", variance="learned_range")
    run = sd.sample(model, (4, 3), solver=solver, grid="knots", dtype=torch.float64, log_prob="steps")
    t, s = sd.levels(table, run.times[:2])
    x, large, level_ratio = run.trajectory[0], 1 - (t.alpha / s.alpha) ** 2, (s.sigma / t.sigma) ** 2
    share = (torch.tanh(x) + 1) / 2
    log_var = share * math.log(large) + (1 - share) * math.log(large * level_ratio)
    x0 = (x - t.sigma * net(x, torch.full((4,), t.time - 1, dtype=torch.float64))) / t.alpha
    mean = (t.alpha / s.alpha) * level_ratio * x + s.alpha * large / t.sigma**2 * x0
    expected = torch.distributions.Normal(mean, torch.exp(log_var / 2)).log_prob(run.trajectory[1]).sum(1)
    torch.testing.assert_close(run.log_prob[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "dpmpp_2m"}, "deterministic: take ancestral"),
        ({"solver": "edm"}, "take euler_ancestral"),
        ({"solver": "sa_solver"}, "adds no noise in the step .* write within=None"),
        ({"solver": "ancestral", "log_prob": "step"}, "write 'steps'"),
        ({"solver": "ancestral", "log_prob": True}, "write 'steps'"),
    ],
)
def test_what_has_no_densities_is_refused(options, words):
    with pytest.raises(sd.Error, match=words):
        sd.sample(MODEL, (2, 3), steps=4, **{"log_prob": "steps", **options})


def test_densities_count_from_the_first_step():
    state = next(iter(sd.iterate(MODEL, (2, 3), solver="ancestral", steps=4)))
    with pytest.raises(sd.Error, match="resume="):
        sd.sample(MODEL, solver="ancestral", resume=state, log_prob="steps")
