"""Processes of a user's own, of two methods."""

import math
import re
from dataclasses import dataclass

import pytest
import torch

import sdediff as sd
from sdediff._utils.tensors import times64

F64 = torch.float64


@dataclass(frozen=True)
class Polynomial(sd.LinearSDE):
    power: float = 2.0

    def alpha(self, t):
        return 1 - t**self.power * 0.99

    def sigma(self, t):
        return t


def gaussian_eps(sde, c):
    """The exact eps network of N(0, c) data, for any process with alpha and sigma."""

    def net(x, t):
        alpha, sigma = (v.to(x)[:, None] for v in sde.marginal(t.double()))
        return sigma * x / (alpha**2 * c + sigma**2)

    return net


def test_a_process_of_two_lines_works_with_every_solver():
    sde, c = Polynomial(), 0.25
    model = sd.ScoreModel(gaussian_eps(sde, c), sde)
    for name, info in sd.list_solvers().items():
        if not info.alone:
            continue
        x = sd.sample(model, (3, 2), solver=name, steps=1 if info.adaptive else 30, dtype=F64)
        assert x.isfinite().all(), name
    # The flow of a Gaussian is known: x_0 = x_T sqrt(c / v(T)).
    start = torch.tensor([[1.0], [-2.0]], dtype=F64)
    exact = start * math.sqrt((c * sde.alpha(times64(1e-3)) ** 2 + 1e-6) / (c * 0.01**2 + 1))
    x = sd.sample(model, x=start, solver=sd.solver("ode", rtol=1e-9, atol=1e-9), denoise=False)
    torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-8)


class General(sd.SDE):
    """An Ornstein-Uhlenbeck process that knows its drift and its diffusion alone."""

    rate, T, t_min = 1.5, 2.0, 1e-3

    def drift(self, x, t):
        return -self.rate * x

    def diffusion(self, t):
        return torch.full_like(times64(t), math.sqrt(2 * self.rate))


def general_model(c):
    """The exact score of N(0, c) data under General: variance 1 + (c - 1) exp(-2 rate t)."""

    def score(x, t):
        return -x / (1 + (c - 1) * torch.exp(-2 * General.rate * t.to(x)))[:, None]

    return sd.ScoreModel(score, General(), predicts="score")


def test_a_process_with_drift_and_diffusion_alone_follows_the_flow():
    c, x = 4.0, torch.tensor([[1.0, -0.3], [2.0, 0.7]], dtype=F64)
    late, early = (1 + (c - 1) * math.exp(-3 * t) for t in (2.0, 1e-3))
    exact = x * math.sqrt(early / late)
    model = general_model(c)
    for name, options, tolerance in (
        ("ode", {"rtol": 1e-9, "atol": 1e-9}, 1e-7),
        ("heun", {}, 2e-3),
        ("rk4", {}, 1e-5),
        ("euler", {}, 0.1),
        ("euler_maruyama", {"eta": 0.0}, 0.1),
    ):
        found = sd.sample(model, x=x, solver=sd.solver(name, **options), steps=1 if name == "ode" else 40)
        torch.testing.assert_close(found, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "steps", "bias"), [("euler_maruyama", 100, 0.03), ("sde", 20, 0.005)])
def test_a_process_with_drift_and_diffusion_alone_reverses_in_distribution(name, steps, bias):
    # n paths: the variance of the result has a relative standard error of sqrt(2/n), 2.2 %.
    c, n = 4.0, 4000
    start = math.sqrt(1 + (c - 1) * math.exp(-6)) * sd.Counter(1).initial(torch.empty(n, 1, dtype=F64))
    x = sd.sample(general_model(c), x=start, solver=name, steps=steps)
    assert x.var().item() == pytest.approx(1 + (c - 1) * math.exp(-3e-3), rel=5.4 * math.sqrt(2 / n) + bias)
    assert abs(x.mean().item()) < 5.4 * 2 / math.sqrt(n)


def test_what_needs_alpha_and_sigma_refuses_them_in_one_sentence():
    model, x = general_model(4.0), torch.ones(2, 1, dtype=F64)
    refusal = re.compile(r"^.* needs alpha and sigma, which General does not give: use euler_maruyama, [^\n]*$")
    assert not any(sd.solver(name).needs_alpha for name in ("euler_maruyama", "heun", "rk4", "rk5", "ode", "sde"))
    for name in sd.list_solvers():
        if not sd.solver(name).needs_alpha:
            assert sd.sample(model, x=x, solver=name, steps=1 if name == "ode" else 4).isfinite().all()
        else:
            with pytest.raises(sd.SolverError, match=refusal):
                sd.sample(model, x=x, solver=name, steps=4)


def test_other_requests_of_such_a_process_are_refused_too():
    model, x = general_model(4.0), torch.ones(2, 1, dtype=F64)
    with pytest.raises(sd.SolverError, match="General does not say what its prior is: give x="):
        sd.sample(model, (2, 1), solver="euler_maruyama")
    with pytest.raises(ValueError, match="General gives drift and diffusion alone: write it as a LinearSDE"):
        sd.log_likelihood(model, x)
    with pytest.raises(ValueError, match="needs a process with alpha and sigma"):
        sd.loss(model, x)
    with pytest.raises(sd.SDEError, match="this process has no alpha"):
        _ = sd.level(General(), 0.5).alpha
    with pytest.raises(sd.SDEError, match="needs alpha and sigma, which General does not give"):
        sd.grid("log_snr", General(), 5)
    with pytest.raises(sd.ModelError, match='takes predicts="score" and time="t" alone'):
        sd.ScoreModel(lambda x, t: x, General())
    with pytest.raises(sd.ModelError, match="both need alpha and sigma"):
        sd.reschedule(sd.ScoreModel(lambda x, t: x, sd.VP()), General())
    with pytest.raises(sd.SDEError, match="this process has no"):
        _ = model(x, 0.5).x0


def test_processes_are_abstract_until_their_two_methods_stand():
    class Half(sd.LinearSDE):
        def alpha(self, t):
            return 1 - t

    for make in (sd.SDE, sd.LinearSDE, Half):
        with pytest.raises(TypeError, match="abstract"):
            make()
