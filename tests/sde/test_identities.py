"""Identities of every process.

Nothing here trusts the package's derivatives: slopes are differences of alpha and sigma themselves.
"""

import itertools
import math

import pytest
import torch
from scipy import stats

import sdediff as sd
from sdediff._utils.tensors import times64
from sdediff.sde import Kernel

F64 = torch.float64


def central(function, t, h=1e-4):
    """d function / dt by the five-point rule, with steps that shrink towards t = 0."""
    step = h * torch.clamp(t, max=1.0)
    near = function(t + step) - function(t - step)
    far = function(t + 2 * step) - function(t - 2 * step)
    return (8 * near - far) / (12 * step)


def f_and_g2(sde, t):
    """Drift and squared diffusion coefficients from alpha and sigma alone: alpha'/alpha, (sigma^2)' - 2 f sigma^2."""
    f = central(sde.alpha, t) / sde.alpha(t)
    return f, central(lambda s: sde.sigma(s) ** 2, t) - 2 * f * sde.sigma(t) ** 2


def test_drift_and_diffusion_are_those_of_alpha_and_sigma(sde, times_inside):
    t = times_inside(sde)
    found = sde.schedule(t)
    f, g2 = f_and_g2(sde, t)
    torch.testing.assert_close(found.alpha_dot, found.f * found.alpha, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.f, f, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.g2, g2, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.alpha_dot, central(sde.alpha, t), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.sigma_dot, central(sde.sigma, t), rtol=1e-7, atol=1e-9)
    variance_dot = central(lambda s: sde.sigma(s) ** 2, t)
    torch.testing.assert_close(2 * found.f * found.sigma**2 + found.g2, variance_dot, rtol=1e-7, atol=1e-9)
    assert (found.g2 > 0).all()


def test_drift_and_diffusion_of_states(sde, times_inside, normals):
    t = times_inside(sde, 4)
    f, g2 = f_and_g2(sde, t)
    x = normals(4, 2, 3)
    torch.testing.assert_close(sde.drift(x, t), f[:, None, None] * x, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(sde.diffusion(t), g2.sqrt(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(sde.drift(x, t[1].item()), f[1] * x, rtol=1e-7, atol=1e-9)


def test_lam_is_log_alpha_over_sigma_and_falls(sde, times_inside):
    t = times_inside(sde, 33)
    lam = sde.lam(t)
    torch.testing.assert_close(lam, torch.log(sde.alpha(t) / sde.sigma(t)), rtol=1e-10, atol=1e-10)
    assert (lam.diff() < 0).all()


def test_t_of_lam_inverts_lam(sde, times_inside):
    t = times_inside(sde, 33)
    torch.testing.assert_close(sde.t_of_lam(sde.lam(t)), t, rtol=1e-10, atol=0)
    torch.testing.assert_close(sde.lam(sde.t_of_lam(sde.lam(t))), sde.lam(t), rtol=0, atol=1e-10)
    ends = sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=F64))
    torch.testing.assert_close(sde.t_of_lam(ends), torch.tensor([sde.t_min, sde.t_max], dtype=F64), rtol=1e-9, atol=0)


def test_t_of_lam_is_clamped_to_the_process(sde):
    beyond = sde.t_of_lam(torch.tensor([60.0, -60.0, math.inf, -math.inf], dtype=F64))
    assert (beyond >= 0).all()
    assert beyond[1].item() == pytest.approx(sde.T, rel=1e-9)
    assert beyond[3].item() == pytest.approx(sde.T, rel=1e-9)
    assert beyond[0].item() <= sde.t_min
    assert beyond[2].item() <= sde.t_min


def test_kernels_compose(sde, times_inside):
    times = times_inside(sde, 6)
    for s, u, t in itertools.combinations(times.tolist(), 3):
        early, late, whole = sde.transition(s, u), sde.transition(u, t), sde.transition(s, t)
        assert whole.scale.item() == pytest.approx((early.scale * late.scale).item(), rel=1e-12)
        composed = (late.scale * early.std) ** 2 + late.std**2
        assert whole.std.item() ** 2 == pytest.approx(composed.item(), rel=1e-9)


def test_kernels_carry_marginals_to_marginals(sde, times_inside):
    times = times_inside(sde, 6)
    s, t = times[:-1], times[1:]
    step, before, after = sde.transition(s, t), sde.marginal(s), sde.marginal(t)
    assert isinstance(step, Kernel)
    torch.testing.assert_close(step.scale * before.scale, after.scale, rtol=1e-12, atol=0)
    torch.testing.assert_close((step.scale * before.std) ** 2 + step.std**2, after.std**2, rtol=1e-12, atol=0)


def test_a_kernel_over_a_short_step_keeps_its_digits():
    # sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2 formed naively would keep 4 digits here.
    for make in (sd.VP, sd.VE, sd.RectifiedFlow):
        s, h = 0.5, 1e-9
        t = s + h
        g2 = sd.level(make(), 0.5).g2
        assert make().transition(s, t).std.item() ** 2 == pytest.approx(g2 * (t - s), rel=1e-6)


def test_a_kernel_from_a_time_to_itself_stays_there(sde, times_inside):
    t = times_inside(sde, 1).item()
    assert [v.item() for v in sde.transition(t, t)] == [1.0, 0.0]


def test_transition_backwards_is_refused():
    with pytest.raises(sd.SDEError, match=r"s=0.7 > t=0.3: swap them"):
        sd.VP().transition(0.7, 0.3)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_reverse_family_shares_the_marginals(sde, times_inside, eta):
    # On N(0, c) data the score is -x/v, v = alpha^2 c + sigma^2. The reverse process is linear with drift
    # a(t) x, so its variance obeys dv/dt = 2 a v - (eta g)^2 backwards in time, which must be v'(t).
    c, t = 0.3, times_inside(sde, 7)

    def variance(s):
        return sde.alpha(s) ** 2 * c + sde.sigma(s) ** 2

    reverse = sde.reverse(lambda x, s: -x / variance(times64(s)).reshape(-1, 1), eta)
    a = reverse.drift(torch.ones(7, 1, dtype=F64), t)[:, 0]
    noise = reverse.diffusion(t)
    f, g2 = f_and_g2(sde, t)
    torch.testing.assert_close(noise, eta * g2.sqrt(), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(a, f + (1 + eta**2) / 2 * g2 / variance(t), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(2 * a * variance(t) - noise**2, central(variance, t), rtol=1e-6, atol=1e-8)


def test_prior_log_density(sde, normals):
    x = 3 * normals(4, 2, 3)
    std = sde.sigma(torch.tensor([sde.T], dtype=F64)).item()
    expected = torch.from_numpy(stats.norm.logpdf(x.numpy(), scale=std)).sum((1, 2))
    found = sde.prior_log_prob(x)
    assert found.dtype == F64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sde.prior_sample(x), std * x, rtol=1e-14, atol=0)


def test_the_unit_prior_is_score_sdes():
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0]], dtype=F64)
    expected = torch.tensor([0.0, -2.5], dtype=F64) - math.log(2 * math.pi)
    torch.testing.assert_close(sd.VP().prior_log_prob(x, "unit"), expected, rtol=1e-14, atol=0)
    assert sd.VP().prior_std("unit") == 1.0
    # VE: -D/2 log(2 pi sigma_max^2) - sum z^2 / (2 sigma_max^2).
    wide = -math.log(2 * math.pi * 50**2) - torch.tensor([0.0, 5.0], dtype=F64) / (2 * 50**2)
    torch.testing.assert_close(sd.VE().prior_log_prob(x), wide, rtol=1e-14, atol=0)
    with pytest.raises(sd.SDEError, match="prior='normal': write"):
        sd.VP().prior_std("normal")


def test_coefficients_are_float64_whatever_comes_in(sde, times_inside):
    t = times_inside(sde, 3).to(torch.float32)
    for value in (*sde.schedule(t), sde.lam(t), sde.t_of_lam(sde.lam(t)), *sde.transition(t[:1], t[2:])):
        assert value.dtype == F64
    x = torch.ones(3, 2)
    assert sde.drift(x, t.double()).dtype == torch.float32
