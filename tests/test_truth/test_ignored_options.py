"""Options that would have no effect are refused."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd

F64 = torch.float64


def net(x, t):
    return 0.1 * x


MODEL = sd.ScoreModel(net, sd.VP())
STATE = next(sd.iterate(MODEL, (2, 2), steps=3))
TIMES = [1.0, 0.5, 0.1]
X = torch.ones(2, 2)


def _sample(**options):
    return sd.sample(MODEL, **({"shape": (2, 2)} | options))


CASES = {
    "times beside steps": lambda: _sample(grid=TIMES, steps=2),
    "times beside calls": lambda: _sample(grid=TIMES, calls=3),
    "times beside start": lambda: _sample(grid=TIMES, start=0.9),
    "times beside stop": lambda: _sample(grid=TIMES, stop=0.2),
    "encode: times beside start": lambda: sd.encode(MODEL, X, grid=TIMES, start=0.9),
    "grid: times beside n": lambda: sd.grid(TIMES, sd.VP(), 5),
    "grid: times beside an option": lambda: sd.grid(TIMES, sd.VP(), rho=3.0),
    "grid: another grid's option": lambda: sd.grid("uniform", sd.VP(), 5, rho=3.0),
    "grid: a misspelt option": lambda: sd.grid("karras", sd.VP(), 5, roh=3.0),
    "grid: a function's option": lambda: sd.grid(lambda sde, n, a, b: [a, b], sd.VP(), 1, rho=3.0),
    "noise beside seed": lambda: _sample(noise=sd.Counter(1), seed=2),
    "noise beside index": lambda: _sample(noise=sd.Counter(1), index=2),
    "sampler: noise beside index": lambda: sd.Sampler(MODEL, noise=sd.Brownian(1))((2, 2), index=[1, 2]),
    "stream beside index": lambda: _sample(noise="stream", index=2),
    "x that requires a gradient": lambda: sd.sample(MODEL, x=X.clone().requires_grad_(), steps=2),
    "encode of one": lambda: sd.encode(MODEL, X.clone().requires_grad_()),
    "decode of one": lambda: sd.decode(MODEL, X.clone().requires_grad_()),
    "grad without a graph": lambda: _sample(grad=True, steps=2),
    "grad in inference mode": torch.inference_mode()(lambda: _sample(grad=True, steps=2)),
    "a solver's options beside it": lambda: sd.solver(sd.solver("ddim"), eta=0.5),
    "substeps of an adaptive method": lambda: sd.solver("ode", substeps=5),
    "tolerances of fixed steps": lambda: sd.solver("ode", method="rk4", rtol=1e-3),
    "scale over t": lambda: sd.solver("rk_adaptive", variable="t", scale=2.0),
    "adams: eta beside er": lambda: sd.solver("adams", variable="sigma", scaler="er", eta=0.5),
    "adams: within beside er": lambda: sd.solver("adams", scaler="er", within=(0.1, 1.0)),
    "adams: within without noise": lambda: sd.solver("adams", within=(0.1, 1.0)),
    "adams: within without tau": lambda: sd.solver("sa_solver", tau=0.0, within=(0.1, 1.0)),
    "adams: scale over lam": lambda: sd.solver("adams", basis="x0", scale=2.0),
    "auto beside grid": lambda: _sample(solver="auto", grid="karras"),
    "sigma_data without edm": lambda: sd.ScoreModel(net, sd.VP(), sigma_data=0.5),
    "offset without index": lambda: sd.ScoreModel(net, sd.VP(), offset=0),
    "loss: spread beside t": lambda: sd.loss(MODEL, X, t=torch.tensor([0.5, 0.6]), spread="lam"),
    "loss: generator beside t and eps": lambda: sd.loss(
        MODEL, X, t=torch.tensor([0.5, 0.6]), eps=X, generator=torch.Generator()
    ),
}
RESUMED = {
    "steps": 3, "calls": 4, "grid": "karras", "x": X, "shape": (2, 2), "dtype": F64, "device": "cpu", "start": 0.9,
    "stop": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_option_that_would_be_dropped_is_refused(name):
    with pytest.raises(sd.Error, match=r"leave|no effect|no option|requires a gradient|made already|write|give"):
        CASES[name]()


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("run", [sd.sample, sd.iterate])
def test_a_state_has_its_runs_own(run, name):
    with pytest.raises(sd.Error, match=f"leave {name} out"):
        run(MODEL, resume=STATE, **{name: RESUMED[name]})


def test_a_sampler_made_for_another_type_does_not_go_on():
    sampler = sd.Sampler(MODEL, grid=STATE.times, dtype=F64)
    with pytest.raises(sd.Error, match=r"the state is torch.float32"):
        sampler(resume=STATE)


def test_gradients_that_mean_something_are_kept():
    x = torch.ones(2, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(sd.sample(MODEL, x=x, steps=2, grad=True).sum(), x)
    assert slope.abs().min() > 0
    with torch.no_grad():
        assert not sd.sample(MODEL, x=x, steps=2).requires_grad
