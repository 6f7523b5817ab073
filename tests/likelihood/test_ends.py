"""Both ends of the flow: the heat term beyond its first order, data narrower than the noise, the process's start."""

import math

import pytest
import torch

import sdediff as sd
from tests.likelihood.narrow_data import Narrow

F64 = torch.float64
# Half of the pixels are constant but for dequantisation.
PIXELS = [0.0023] * 20 + [0.5] * 12
CASES = {"ve": (sd.VE(sigma_min=0.01), PIXELS), "vp": (sd.VP(), [0.00225] * 20 + [0.5] * 12)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("trace", ["exact", "hadamard"])
@pytest.mark.parametrize("rotated", [False, True])
def test_data_narrower_than_the_noise_at_t0(name, trace, rotated):
    sde, std = CASES[name]
    data = Narrow(std, rotated)
    x = data.sample(16)
    found = sd.log_likelihood(data.model(sde, stats=True), x, trace=trace, dtype=F64)
    error = (found.log_prob - data.log_prob(x)).abs()
    # 16 at .95: fewer than 10 by chance in 1e-6.
    assert (error <= torch.hypot(1.96 * found.std_error, found.solver_error)).sum() >= 10
    # The first order alone is off by .57 nats a pixel, r = .95.
    first = (found.log_prob - found.terms["curvature"] - data.log_prob(x)).abs()
    if trace == "exact":
        assert error.max() < 0.8
        assert (found.solver_error > first / 4).all()
    if name == "ve":
        assert first.mean() > 8


@pytest.mark.parametrize("share", [0.03, 0.01, 0.001])
@pytest.mark.parametrize("trace", ["exact", "hadamard"])
@pytest.mark.parametrize("sde", [sd.VP(), sd.EDM(), sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000))])
def test_the_error_of_data_too_narrow_to_tell_how_narrow_they_are(sde, trace, share):
    narrow = 8
    first = sd.level(sde, sde.t0)
    data = Narrow([share * first.sigma / first.alpha] * narrow + [0.5] * (32 - narrow), rotated=True)
    x = data.sample(16)
    found = sd.log_likelihood(data.model(sde), x, trace=trace, rtol=1e-4, atol=1e-4, dtype=F64)
    error = (found.log_prob - data.log_prob(x)).abs()
    # 16 at .95: fewer than 10 by chance in 1e-6.
    assert (error <= torch.hypot(1.96 * found.std_error, found.solver_error)).sum() >= 10
    # Up to log(1/share) nats a direction are missing where 1 - r is not known.
    assert found.solver_error.median() < 15 * narrow


@pytest.mark.parametrize("name", CASES)
def test_the_ode_has_both_orders_of_the_heat_term_too(name):
    sde, std = CASES[name]
    data = Narrow(std, rotated=True)
    x, options = data.sample(4), {"trace": "exact", "end": "heat", "dtype": F64}
    model, prior = data.model(sde), lambda z: data.log_prob(z, sde, sde.t_max)
    found = sd.log_likelihood(model, x, method="ode", prior=prior, **options, rtol=1e-7, atol=1e-7)
    passes = sd.log_likelihood(model, x, prior=prior, **options, rtol=1e-5, atol=1e-5)
    for term in ("heat", "curvature"):
        torch.testing.assert_close(found.terms[term], passes.terms[term], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.log_prob, passes.log_prob, rtol=0, atol=0.02)
    # The first order alone is off by .57 nats for each of 20 narrow pixels where r = .95.
    assert (found.log_prob - data.log_prob(x)).abs().max() < 0.8
    # Two evaluations more than of the flow alone.
    flow = sd.log_likelihood(model, x, method="ode", prior=prior, **{**options, "end": "t0"}, rtol=1e-7, atol=1e-7)
    assert abs(found.calls[0] - flow.calls[0]) < 0.1 * flow.calls[0]


def test_the_second_order_is_that_of_the_heat_equation():
    # One dimension: log p_0 beyond the first order is r^2/4 - z^2 r^2/2 + O(r^3), r = sigma^2/(s^2 + sigma^2).
    sde, s = sd.EDM(t_min=0.01), 0.1
    data, x = Narrow([s]), s * torch.linspace(-2, 2, 9, dtype=F64)[:, None]
    found = sd.log_likelihood(data.model(sde), x, trace="exact", rtol=1e-8, atol=1e-8, dtype=F64)
    r, z2 = 1e-4 / (s**2 + 1e-4), (x[:, 0] / s) ** 2
    exact = -0.5 * math.log1p(-r) - r / 2 - z2 * r**2 / 2
    torch.testing.assert_close(found.terms["curvature"], exact, rtol=1e-6, atol=1e-12)
    assert (found.terms["curvature"] - (r**2 / 4 - z2 * r**2 / 2)).abs().max() < r**3


NARROW = {
    "ve": CASES["ve"],
    "vp": (sd.VP(), [5e-4] * 20 + [0.5] * 12),
    "edm in 4": (sd.EDM(t_min=0.01), [0.002] * 3 + [0.5]),
    "flow in 4": (sd.RectifiedFlow(t_min=0.01), [0.002] * 3 + [0.5]),
    "cosine in 64": (sd.Cosine(t_min=0.01), [0.003] * 40 + [0.5] * 24),
}  # fmt: skip


@pytest.mark.parametrize("name", NARROW)
def test_typical_narrow_data_have_even_p_values(name):
    sde, std = NARROW[name]
    assert min(std) < sd.level(sde, sde.t0).kappa
    data, n = Narrow(std, rotated=True), 400
    found = sd.path_statistics(data.model(sde, stats=True), data.sample(n), kappa=[0.1, 1.0], dtype=F64, micro_batch=n)
    gap = (found.p_value.sort().values - (torch.arange(n) + 0.5) / n).abs().max()
    # Kolmogorov and Smirnov: sqrt(n) times the gap is above 2.7 by chance in 1e-6.
    assert gap < 2.7 / math.sqrt(n)


@pytest.mark.parametrize("t_min", [None, 0.01])
def test_a_network_is_not_evaluated_below_the_stated_end(t_min):
    seen = []
    sde, data = sd.VP(t_min=t_min), Narrow([0.5] * 4)
    watched = data.model(sde).map_net(lambda net: lambda x, t: seen.append(t.min().item()) or net(x, t))
    for options in ({}, {"method": "ode"}, {"preset": "literature"}, {"end": "noised"}):
        found = sd.log_likelihood(watched, data.sample(2), dtype=F64, **options)
        assert found.t0 == sde.t0 == (1e-5 if t_min is None else t_min)
    sd.path_statistics(watched, data.sample(2), kappa=3, dtype=F64)
    assert min(seen) >= sde.t0 * (1 - 1e-9)
