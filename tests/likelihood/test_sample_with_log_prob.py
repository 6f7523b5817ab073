"""Samples with their log density, and log densities that are differentiated."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import sdediff as sd

F64 = torch.float64
TIGHT = {"rtol": 1e-8, "atol": 1e-8, "nodes": 5, "trace": "exact"}


@pytest.fixture(scope="module")
def ring():
    return sd.target("ring")


@pytest.mark.parametrize("end", ["heat", "t0"])
@pytest.mark.parametrize("prior", ["sigma", "std", "diagonal", "full"])
def test_it_is_what_scoring_the_samples_gives(ring, end, prior):
    model = dataclasses.replace(ring.model(sd.VP()), stats=sd.statistics(ring.sample(2000, seed=1)))
    x, told = sd.sample_with_log_prob(model, (16, 2), dtype=F64, end=end, prior=prior, **TIGHT)
    again = sd.log_likelihood(model, x, end=end, prior=prior, **TIGHT)
    # Both directions have a path of their own, and between the modes they pull neighbours apart.
    torch.testing.assert_close(told.log_prob, again.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(told.latent, again.latent, rtol=0, atol=1e-5)
    assert (told.end, told.prior, told.status) == (end, prior, ("ok",) * 16)
    if end == "heat":
        assert (told.log_prob - ring.log_prob(x)).abs().median() < 0.02


def test_the_latents_are_the_priors_own():
    g = sd.target("gaussian")
    stats = sd.statistics(g.sample(5000, seed=1))
    model = dataclasses.replace(g.model(sd.VP()), stats=stats)
    _, told = sd.sample_with_log_prob(model, (4000, *g.shape), rtol=1e-2, atol=1e-2, probes=2, micro_batch=4000)
    end = sd.level(sd.VP(), 1.0)
    wanted = end.alpha**2 * stats.covariance() + end.sigma**2 * torch.eye(math.prod(g.shape), dtype=F64)
    flat = told.latent.flatten(1) - end.alpha * stats.mean.flatten()
    found = flat.T @ flat / len(flat)
    spread = ((wanted.diagonal()[:, None] * wanted.diagonal() + wanted**2) / len(flat)).sqrt()
    assert bool(((found - wanted).abs() < 4.9 * spread).all())


def test_samples_are_functions_of_their_index(ring):
    model = ring.model(sd.VP())
    options = {"dtype": F64, "seed": 5, "trace": "exact"}
    x, told = sd.sample_with_log_prob(model, (6, 2), **options)
    part, alone = sd.sample_with_log_prob(model, (2, 2), index=[4, 1], **options)
    small, parts = sd.sample_with_log_prob(model, (6, 2), micro_batch=4, **options)
    torch.testing.assert_close(part, x[[4, 1]], rtol=0, atol=1e-9)
    torch.testing.assert_close(alone.log_prob, told.log_prob[[4, 1]], rtol=0, atol=1e-9)
    torch.testing.assert_close(small, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.log_prob, told.log_prob, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"end": "noised"}, 'write "heat" or "t0"'),
        ({"prior": lambda z: z[:, 0]}, "to draw from a prior give its name"),
        ({"shape": (4,)}, "a batch size and at least one dimension"),
        ({"prior": "full"}, "needs the data's statistics"),
    ],
)
def test_wrong_arguments_are_refused(ring, options, message):
    shape = options.pop("shape", (4, 2))
    with pytest.raises(ValueError, match=message):
        sd.sample_with_log_prob(ring.model(sd.VP()), shape, **options)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    def forward(self, x, t):
        return self.layers(torch.cat([x, t[:, None].to(x)], 1)) * 0.2 + 0.8 * x


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize(("trace", "end"), [("exact", "t0"), ("rademacher", "heat"), ("exact", "noised")])
def test_gradients_are_those_of_finite_differences(gradient, trace, end):
    model = sd.ScoreModel(Small(), sd.VP(), predicts="eps")
    x = torch.tensor([[0.3, -0.8], [1.0, 0.2]], dtype=F64, requires_grad=True)
    options = {"method": "ode", "rtol": 1e-8, "atol": 1e-8, "trace": trace, "end": end, "t0": 1e-2}
    options |= {} if trace == "exact" else {"probes": 2}
    found = sd.log_likelihood(model, x, gradient=gradient, **options)
    found.log_prob.sum().backward()
    plain = sd.log_likelihood(model, x.detach(), **options)
    torch.testing.assert_close(found.log_prob.detach(), plain.log_prob, rtol=0, atol=1e-7)
    weight, step = model.net.layers[0].weight, 1e-4

    def moved(change):
        with torch.no_grad():
            return sd.log_likelihood(model, x.detach() + change, **options).log_prob

    for i in range(2):
        unit = torch.zeros(2, dtype=F64)
        unit[i] = step
        slope = (moved(unit) - moved(-unit)) / (2 * step)
        torch.testing.assert_close(x.grad[:, i], slope, rtol=1e-4, atol=1e-4)
    known = weight.grad[3, 1].item()
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[3, 1] += sign * step
        sides.append(moved(torch.zeros(2, dtype=F64)).sum().item())
        with torch.no_grad():
            weight[3, 1] -= sign * step
    assert known == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-3, abs=1e-4)


def test_gradients_need_an_integrator_that_has_them(ring):
    model = ring.model(sd.VP())
    with pytest.raises(ValueError, match="RK45 gives no gradients here"):
        sd.log_likelihood(model, torch.zeros(2, 2, dtype=F64), method="ode", integrator="RK45", gradient="direct")
    with pytest.raises(ValueError, match="does not belong to method='two_pass': it is for 'ode'"):
        sd.log_likelihood(model, torch.zeros(2, 2, dtype=F64), gradient="direct")


def test_the_adjoint_finds_the_parameters_behind_a_function():
    net, x = Small(), torch.tensor([[0.3, -0.8]], dtype=F64)
    options = {"method": "ode", "trace": "exact", "end": "t0", "t0": 1e-2, "gradient": "adjoint"}
    found = []
    for given in (net, lambda x, t: net(x, t)):
        net.zero_grad()
        sd.log_likelihood(sd.ScoreModel(given, sd.VP()), x, **options).log_prob.sum().backward()
        found.append(net.layers[0].weight.grad.clone())
    assert found[0].abs().max() > 1e-3
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
