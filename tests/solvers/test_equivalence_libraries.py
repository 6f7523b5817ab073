"""Textbook tableaus and the steps of torchdiffeq and torchsde: identities to 1e-12."""

import pytest
import torch

import sdediff as sd
from tests.solvers.equivalence import at, net, one_step, same

F64 = torch.float64


@pytest.mark.parametrize("name", ["euler", "midpoint", "heun", "rk4"])
def test_runge_kutta_tableaus_are_the_textbooks(name, x):
    # On dx/dt = velocity(x, t) of the flow, classical formulas; t enters the network's clock.
    sde = sd.VP()
    model = sd.ScoreModel(net, sde, predicts="velocity")
    t, s = 0.7, 0.62
    h = s - t

    def v(y, time):
        return at(time)(y)

    k1 = v(x, t)
    middle = v(x + h / 2 * k1, t + h / 2)
    k3 = v(x + h / 2 * middle, t + h / 2)
    expected = {
        "euler": x + h * k1,
        "midpoint": x + h * middle,
        "heun": x + h / 2 * (k1 + v(x + h * k1, s)),
        "rk4": x + h / 6 * (k1 + 2 * middle + 2 * k3 + v(x + h * k3, s)),
    }[name]
    same(one_step(name, model, x, [t, s])[0], expected)


@pytest.mark.parametrize(("method", "name"), [("euler", "euler"), ("rk4", None), ("midpoint", "midpoint")])
def test_torchdiffeqs_fixed_steps_are_the_same_steps(method, name, x):
    model = sd.ScoreModel(net, sd.VP())
    black = sd.sample(model, x=x, solver=sd.solver("ode", method=method, substeps=20), grid=[0.9, 0.4], denoise=False)
    times = torch.linspace(0.9, 0.4, 21, dtype=F64)
    if name is None:  # torchdiffeq's rk4 is the 3/8 rule: equal to ours at order 4 alone
        ours = sd.sample(model, x=x, solver="rk4", grid=times, denoise=False)
        same(black, ours, 1e-5)
    else:
        same(black, sd.sample(model, x=x, solver=name, grid=times, denoise=False), 1e-11)


def test_torchsdes_euler_is_euler_maruyama_on_one_path(x):
    # In the SDE's own time, additive noise, one Brownian path: the same numbers, step by step.
    model, path = sd.ScoreModel(net, sd.VP()), sd.Brownian(seed=5)
    times = torch.linspace(0.9, 0.1, 17, dtype=F64)
    ours = sd.sample(model, x=x, solver="euler_maruyama", grid=times, noise=path, denoise=False)
    theirs = sd.sample(
        model, x=x, solver=sd.solver("sde", method="euler", substeps=16), grid=[0.9, 0.1], noise=path, denoise=False
    )
    # Ticks of the path are 1.5e-8 wide and torchsde's steps a hair long.
    same(theirs, ours, 1e-6)


def test_the_family_at_eta_0_is_the_deterministic_solver(x):
    model = sd.ScoreModel(net, sd.VP())
    options = {"x": x, "steps": 7, "grid": "uniform"}
    same(*(sd.sample(model, solver=s, **options) for s in (sd.solver("euler_maruyama", eta=0.0), "euler")))
    same(*(sd.sample(model, solver=s, **options) for s in (sd.solver("ddim", eta=1e-9), "ddim")), 1e-8)


def test_the_first_state_of_a_run_is_the_prior(sde):
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sde, predicts="v", time="t")
    first = next(sd.iterate(model, (5, 3), solver="ddim", steps=3, seed=11, dtype=F64))
    z = sd.Counter(11).initial(torch.empty(5, 3, dtype=F64))
    torch.testing.assert_close(first.x, sd.level(sde, first.t.time).sigma * z, rtol=1e-14, atol=0)


def test_the_straight_path_needs_fewer_calls_than_vp() -> None:
    """A14: dopri5 at 1e-5 in the process's own time between the same log-SNR, to sample and to score."""
    target, vp, calls = sd.problem("target_m"), sd.VP(), []
    for sde in (vp, sd.RectifiedFlow()):
        model, t0 = target.model(sde), sde.t_of_lam(vp.lam(1e-3)).item()
        drawn = sd.sample(model, (64, 2), solver="ode", stop=t0, dtype=torch.float64, full=True)
        x = target.sample(64, seed=0, dtype=torch.float64)
        scored = sd.log_likelihood(model, x, method="ode", variable="t", trace="exact", t0=t0)
        calls.append((drawn.calls, scored.calls[0].item()))
    assert calls[1][0] < 0.8 * calls[0][0]
    assert calls[1][1] < calls[0][1]
