"""Grids against the papers' and libraries' own times."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import sdediff as sd
from tests.grids.counted import Counted

F64 = torch.float64


def test_karras_ten_sigmas():
    expected = [80, 42.4151893185, 21.1086767362, 9.72320135526, 4.06612360295]
    expected += [1.50174197907, 0.469979057998, 0.116638563525, 0.0204353345534, 0.002]
    times = sd.grid("karras", sd.EDM(), 9)
    assert times.tolist() == pytest.approx(expected, rel=1e-10)


def test_exponential_sigmas_are_even_in_log_snr():
    times = sd.grid("log_snr", sd.EDM(), 4)
    assert times.tolist() == pytest.approx([80, 5.65685424949, 0.4, 0.0282842712475, 0.002], rel=1e-10)


def test_polyexponential_sigmas():
    # k-diffusion's get_sigmas_polyexponential: exp(ramp^rho log(80/.002) + log .002), ramp from 1 to 0.
    times = sd.grid("polynomial", sd.EDM(), 6, rho=2.5)
    ramp = np.linspace(1, 0, 7) ** 2.5
    assert times.tolist() == pytest.approx(np.exp(ramp * math.log(80 / 0.002) + math.log(0.002)), rel=1e-11)


def test_vp_sigmas_are_uniform_in_time():
    # k-diffusion's get_sigmas_vp(3), from t = 1 to 1e-3.
    sde = sd.VP()
    times = sd.grid("uniform", sde, 2)
    expected = [152.166970284, 3.42224476257, 0.0104859927867]
    assert (sde.sigma(times) / sde.alpha(times)).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["log_snr", "exponential"])
def test_exponential_is_the_log_snrs_other_name(sde, name):
    times = sd.grid(name, sde, 9, start=0.9 * sde.t_max)
    log_sigmas = torch.log(sde.sigma(times) / sde.alpha(times))
    torch.testing.assert_close(log_sigmas.diff(), log_sigmas.diff().mean().expand(9), rtol=1e-8, atol=0)
    assert torch.equal(times, sd.grid("log_snr", sde, 9, start=0.9 * sde.t_max))
    assert torch.equal(sd.grid("polyexponential", sde, 9), sd.grid("polynomial", sde, 9))


def test_time_shift_is_sd3s_on_a_flow():
    # Esser et al. 2024, eq. 23: t = shift u / (1 + (shift - 1) u) of even u, which here ends where t is t_min.
    sde, shift = sd.RectifiedFlow(), 3.0
    u = np.linspace(1, sde.t_min / (shift - (shift - 1) * sde.t_min), 11)
    expected = shift * u / (1 + (shift - 1) * u)
    assert sd.grid("time_shift", sde, 10).tolist() == pytest.approx(expected, rel=1e-12)
    assert sd.grid("time_shift", sde, 10, shift=1.0).tolist() == pytest.approx(np.linspace(1, sde.t_min, 11))
    with pytest.raises(ValueError, match=r"shift=0: .*write a positive number"):
        sd.grid("time_shift", sde, 10, shift=0)


def test_time_shift_multiplies_sigma_over_alpha(sde):
    plain = sd.grid("time_shift", sde, 8, shift=1.0, start=0.9 * sde.t_max)
    shifted = sd.grid("time_shift", sde, 8, shift=2.5, start=0.9 * sde.t_max)
    # Even steps of u = k/(1 + k) before k = sigma/alpha is multiplied by 2.5.
    for times, shift in ((plain, 1.0), (shifted, 2.5)):
        k = sde.sigma(times) / sde.alpha(times) / shift
        u = k / (1 + k)
        torch.testing.assert_close(u.diff(), u.diff().mean().expand(8), rtol=1e-8, atol=0)
    assert (shifted[1:-1] > plain[1:-1]).all()


@pytest.mark.parametrize("shape", [{}, {"alpha": 0.6, "beta": 0.6}, {"alpha": 1.5, "beta": 0.8}])
def test_beta_times_are_even_quantiles(shape):
    a, b = shape.get("alpha", 0.6), shape.get("beta", 0.6)
    sde = sd.EDM()
    times = sd.grid("beta", sde, 8, **shape)
    shares = ((times - sde.t_min) / (sde.T - sde.t_min)).tolist()
    whole = math.gamma(a) * math.gamma(b) / math.gamma(a + b)
    for i, share in enumerate(shares[1:-1], 1):
        # x = y^(1/a) takes the density's pole at 0 away.
        mass = quad(lambda y: (1 - y ** (1 / a)) ** (b - 1) / a, 0, share**a, epsabs=1e-12)[0] / whole
        assert mass == pytest.approx(1 - i / 8, abs=1e-9)
    with pytest.raises(ValueError, match=r"alpha=0, beta=0\.6: a Beta distribution needs both positive"):
        sd.grid("beta", sde, 8, alpha=0)


# diffusers' set_timesteps, for n timesteps of 1000 (0-based): its own lines, in numpy.
DIFFUSERS = {
    "linspace": lambda n: np.linspace(0, 999, n).round()[::-1],
    "leading": lambda n: (np.arange(0, n) * (1000 // n)).round()[::-1],
    "trailing": lambda n: np.round(np.arange(1000, 0, -1000 / n)) - 1,
}


@pytest.mark.parametrize(
    ("spacing", "counts"),
    [
        ("linspace", range(2, 1001)),
        ("leading", range(2, 1001)),
        # Where 1000/n is not exact its arange is off by rounding: 61 steps give 62 of them, the last -1.
        ("trailing", (2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000, 3, 6, 7, 15, 30)),
    ],
)
def test_strided_knots_are_diffusers(spacing, counts):
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    wrong = [
        n
        for n in counts
        if (sd.grid("strided", table, n - 1, spacing=spacing).numpy() - 1).tolist() != DIFFUSERS[spacing](n).tolist()
    ]
    assert wrong == []


def test_the_previous_time_comes_from_the_actual_grid():
    # diffusers takes t - 1000//n = 899 for the time after 999 whatever the spacing.
    table, net = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)), Counted()
    seen = []

    class Noted(sd.Solver):
        def step(self, model, x, t, s, state, noise):
            seen.append((t.time - 1, s.time - 1))
            return model(x, t).x0, None

    sd.sample(sd.ScoreModel(net, table, time="index"), (1, 2), solver=Noted(), steps=9)
    seen = seen[-9:]  # after the trial of a short run on Gaussian data
    assert seen[0] == (999, 888)
    assert [b for _, b in seen[:-1]] == [a for a, _ in seen[1:]]
    assert net.clocks == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]


def test_ddim_steps_along_the_actual_grid():
    # DDIM's mean with alpha_bar of 888, not of 899, written out from the paper (eq. 12).
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=F64), 0)
    x = torch.tensor([[0.3, -1.2]], dtype=F64)
    eps = 0.4 * torch.tanh(x)
    run = sd.sample(sd.ScoreModel(Counted(), table, time="index"), x=x, solver="ddim", steps=9, full=True)
    x0 = (x - (1 - bars[999]).sqrt() * eps) / bars[999].sqrt()
    expected = bars[888].sqrt() * x0 + (1 - bars[888]).sqrt() * eps
    torch.testing.assert_close(run.trajectory[1], expected, rtol=1e-10, atol=1e-12)


def test_knots_are_every_knot():
    table = sd.Table.from_sigmas([0.1, 0.2, 0.5, 1.0])
    assert sd.grid("knots", table).tolist() == [4, 3, 2, 1]
    assert sd.grid("knots", table, 3).tolist() == [4, 3, 2, 1]
    assert sd.grid("knots", table, start=3).tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match="'knots' has 3 moves, asked for 5: leave steps out, or use 'strided'"):
        sd.grid("knots", table, 5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_strided_over_all_knots_is_knots(spacing):
    table = sd.Table.from_betas(torch.linspace(0.01, 0.2, 17, dtype=F64))
    assert torch.equal(sd.grid("strided", table, 16, spacing=spacing), sd.grid("knots", table))
    with pytest.raises(ValueError, match="18 distinct knots were asked of a table with 17: ask for at most 16 steps"):
        sd.grid("strided", table, 17, spacing=spacing)


def test_strided_between_start_and_stop():
    table = sd.Table.from_betas(torch.linspace(0.001, 0.1, 100, dtype=F64))
    times = sd.grid("strided", table, 4, start=81, stop=41)
    assert times.tolist() == [81, 71, 61, 51, 41]
    with pytest.raises(ValueError, match="spacing='even': write 'leading', 'trailing' or 'linspace'"):
        sd.grid("strided", table, 4, spacing="even")
