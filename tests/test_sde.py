"""Processes against published values, against each other and against central differences.

Nothing here trusts the package's derivatives: slopes are differences of alpha and sigma themselves.
"""

import itertools
import math
import re
from dataclasses import dataclass

import pytest
import torch
from scipy import stats

import sdediff as sd
from sdediff._utils.tensors import times64
from sdediff.sde.base.base import Kernel

F64 = torch.float64


def printed(text):
    """A value as it stands in a table: within 1e-10 or half a unit of its last digit."""
    digits, _, power = text.partition("e")
    half = 0.5 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return pytest.approx(float(text), rel=1e-10, abs=1.01 * half)


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


# --- published values -----------------------------------------------------------------------------------------

# score_sde's sde_lib.py: t, alpha, VP std, sub-VP std, sub-VP g, VE sigma, VE g, sqrt(sigma^2 - sigma_min^2).
GOLDEN = """
1e-5 .999999499503  .00100049712594 1.000994499e-6  .000447880782366 .0100008517556 .0412762502333 .000130521405589
1e-3 .999945026511  .0104854163351  1.0994395572e-4 .00513450204691  - - -
.25  .723657185083  .690159603626   .476320278478   1.91917422673    .0840896415254 .347060947452  .083492920729
.5   .281182880797  .959654202068   .920936187547   3.16024944922    .707106781187  2.91842306587  .707036066973
1    .00657158649493 .999978406892  .999956814251   4.47213595083    50             206.363674025  49.999999
"""
VALUES = {
    "alpha": lambda t: sd.VP().alpha(t),
    "VP std": lambda t: sd.VP().sigma(t),
    "sub-VP std": lambda t: sd.SubVP().sigma(t),
    "sub-VP g": lambda t: sd.SubVP().diffusion(t),
    "VE sigma": lambda t: sd.VE().sigma(t),
    "VE g": lambda t: sd.VE().diffusion(t),
    "VE sigma, zero start": lambda t: sd.VE(zero_start=True).sigma(t),
}
ROWS = [line.split() for line in GOLDEN.strip().splitlines()]
CELLS = [(row[0], name, text) for row in ROWS for name, text in zip(VALUES, row[1:], strict=True) if text != "-"]


@pytest.mark.parametrize(("t", "name", "text"), CELLS)
def test_score_sdes_values(t, name, text):
    assert VALUES[name](torch.tensor([float(t)], dtype=F64)).item() == printed(text)


@pytest.mark.parametrize("t", [1e-5, 1e-3, 0.25, 0.5, 1.0])
def test_song_2021_closed_forms_to_ten_digits(t):
    beta, total = 0.1 + 19.9 * t, 0.1 * t + 19.9 * t**2 / 2
    rate = math.log(50 / 0.01)
    expected = {
        (sd.VP, "f"): -beta / 2,
        (sd.VP, "g2"): beta,
        (sd.VP, "sigma"): math.sqrt(-math.expm1(-total)),
        (sd.SubVP, "f"): -beta / 2,
        (sd.SubVP, "g2"): -beta * math.expm1(-2 * total),
        (sd.SubVP, "sigma"): -math.expm1(-total),
        (sd.VE, "f"): 0.0,
        (sd.VE, "g2"): 2 * rate * (0.01 * math.exp(rate * t)) ** 2,
        (sd.VE, "lam"): -math.log(0.01) - rate * t,
        (sd.VP, "lam"): -0.5 * math.log(math.expm1(total)),
    }
    for (make, name), value in expected.items():
        assert getattr(sd.level(make(), t), name) == pytest.approx(value, rel=1e-10, abs=1e-300)


def test_ddpms_linear_table():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    table = sd.Table.from_betas(betas)
    bars = table.alpha(torch.arange(1, 1001, dtype=F64)) ** 2
    for index, text in ((0, ".9999"), (499, ".0785872428818"), (999, "4.03582976538e-5")):
        assert bars[index].item() == printed(text)
    torch.testing.assert_close(bars, torch.cumprod(1 - betas, 0), rtol=1e-12, atol=0)
    # The posterior's variance, from the kernel between neighbouring knots and the two sigmas.
    for index, text in ((1, "5.4531876613e-5"), (500, ".0100513357789"), (999, ".0199999835266")):
        step = table.transition(float(index), float(index + 1)).std.item() ** 2
        ends = table.sigma(torch.tensor([float(index), float(index + 1)], dtype=F64)) ** 2
        assert step == pytest.approx(betas[index].item(), rel=1e-10)
        assert step * (ends[0] / ends[1]).item() == printed(text)


def test_scaled_linear_table():
    table = sd.Table.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=F64) ** 2)
    last, first = sd.level(table, 1000.0), sd.level(table, 1.0)
    assert last.alpha**2 == printed(".00466009851308")
    assert last.kappa == printed("14.6146412293")
    assert first.kappa == printed(".0291671581517")


def test_cosine_table():
    betas = sd.Cosine().betas(1000)
    for index, text in ((0, "4.1284224822e-5"), (998, ".749999392901"), (999, ".999")):
        assert betas[index].item() == printed(text)
    table = sd.Table.from_betas(betas)
    assert table.alpha(torch.tensor([1000.0], dtype=F64)).item() ** 2 == printed("2.42876690703e-9")
    lams = ["-5.07775571713", "-5.36544345723", "-5.77091261363", "-6.46406222315", "-9.91794107581"]
    for found, text in zip(table.lam(torch.arange(996, 1001, dtype=F64)).tolist(), lams, strict=True):
        assert found == printed(text)


def test_k_diffusions_get_sigmas_vp():
    row = sd.levels(sd.VP(), sd.grid("uniform", sd.VP(), 2))
    for here, text in zip(row, ("152.166970284", "3.42224476257", ".0104859927867"), strict=True):
        assert here.kappa == printed(text)


def test_songs_discrete_ve_is_the_continuous_one_at_its_knots():
    n = 50
    table = sd.Table.from_sigmas(torch.exp(torch.linspace(math.log(0.01), math.log(50), n, dtype=F64)))
    knots = torch.arange(1, n + 1, dtype=F64)
    torch.testing.assert_close(table.sigma(knots), sd.VE().sigma((knots - 1) / (n - 1)), rtol=1e-12, atol=0)
    between = torch.linspace(1, n, 31, dtype=F64)
    torch.testing.assert_close(table.lam(between), sd.VE().lam((between - 1) / (n - 1)), rtol=0, atol=1e-12)


def test_cosine_and_flow_closed_forms():
    t = torch.tensor([0.01, 0.3, 0.77], dtype=F64)
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    bars = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / start
    torch.testing.assert_close(sd.Cosine().alpha(t) ** 2, bars, rtol=1e-12, atol=0)
    torch.testing.assert_close(sd.Cosine().sigma(t) ** 2, 1 - bars, rtol=1e-11, atol=0)
    torch.testing.assert_close(sd.RectifiedFlow().alpha(t), 1 - t)
    torch.testing.assert_close(sd.RectifiedFlow().sigma(t), t)


def test_defaults_are_the_papers():
    assert (sd.VP().beta_min, sd.VP().beta_max, sd.VP().T, sd.VP().t_min, sd.VP().t0) == (0.1, 20.0, 1.0, 1e-3, 1e-5)
    assert (sd.VE().sigma_min, sd.VE().sigma_max, sd.VE().t_min) == (0.01, 50.0, 1e-5)
    assert (sd.EDM().t_min, sd.EDM().T) == (0.002, 80.0)
    assert sd.SubVP().t_min == 1e-3


# --- identities of every process --------------------------------------------------------------------------------


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


# --- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sde", [sd.Cosine(), sd.RectifiedFlow()], ids=["cosine", "flow"])
def test_where_alpha_ends_at_zero_t_max_lies_just_below(sde):
    end = sd.level(sde, sde.T)
    assert (end.alpha, end.lam, end.sigma) == (0.0, -math.inf, pytest.approx(1.0))
    assert end.g2 == math.inf
    assert sde.t_max == pytest.approx(sde.T * (1 - 1e-3))
    below = sd.level(sde, sde.t_max)
    assert all(math.isfinite(getattr(below, name)) for name in ("alpha", "sigma", "lam", "f", "g2"))
    # The flow's own slopes stay finite there: dx/dt = alpha' x0 + sigma' eps.
    assert math.isfinite(end.alpha_dot)
    assert math.isfinite(end.sigma_dot)


def zero_terminal(n=100):
    """Lin et al. 2024, algorithm 1: sqrt(alpha_bar) shifted and scaled so that the last one is 0."""
    roots = torch.cumprod(1 - torch.linspace(1e-4, 0.2, n, dtype=F64), 0).sqrt()
    return sd.Table.from_alpha_bars(((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2)


def test_a_zero_terminal_table():
    table = zero_terminal()
    end = sd.level(table, table.T)
    assert (end.alpha, end.sigma, end.lam) == (0.0, 1.0, -math.inf)
    assert table.t_max == table.T - 1
    assert math.isfinite(sd.level(table, table.t_max).lam)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "ancestral"])
def test_a_zero_terminal_table_is_sampled_from_its_end(name):
    clocks = []

    def net(x, t):
        clocks.append(t[0].item())
        return torch.tanh(x)

    model = sd.ScoreModel(net, zero_terminal(), predicts="v", time="index")
    assert sd.sample(model, (2, 3), solver=name, steps=8, grid="strided", dtype=F64).isfinite().all()
    assert clocks[0] == 99


@pytest.mark.parametrize("name", ["euler", "heun", "rk4", "ode"])
def test_a_zero_terminal_tables_flow_has_no_slope_at_its_end(name):
    # alpha jumps to 0 at the last knot, so what integrates the flow in t starts below it or refuses.
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), zero_terminal(), predicts="v", time="index")
    try:
        x = sd.sample(model, (2, 3), solver=name, steps=8, grid="strided", dtype=F64)
    except sd.SDEError as error:
        message = str(error)
    else:
        message, finite = "alpha = 0: started below it", bool(x.isfinite().all())
        assert finite
    assert "alpha" in message


def test_t0_and_the_tables_ends():
    assert sd.VP().t0 == 1e-5
    assert sd.EDM().t0 == 0.002
    table = sd.Table.from_sigmas([0.1, 1.0, 5.0])
    assert (table.T, table.t_min, table.t0, table.t_max, table.n) == (3.0, 1.0, 1.0, 3.0, 3)
    # lam is linear between the knots and constant beyond them.
    assert table.lam(1.25).item() == pytest.approx(-(0.75 * math.log(0.1) + 0.25 * math.log(1.0)), rel=1e-12)
    assert table.lam([0.2, 3.0]).tolist() == pytest.approx([math.log(10), -math.log(5)], rel=1e-12)


# --- a user's own processes ---------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="needs a process with alpha and sigma"):
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


# --- arguments that make no process -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sd.Table.from_betas([0.1, 0.0]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1, 1.2]), r"betas must lie in \(0, 1\]"),
        (lambda: sd.Table.from_betas([0.1]), "at least two knots"),
        (lambda: sd.Table.from_betas([0.1, 1.0, 0.1]), "at least two knots whose noise rises"),
        (lambda: sd.Table.from_betas([0.1, math.nan]), "betas|knots"),
        (lambda: sd.Table.from_alpha_bars([0.1, 0.9]), "noise rises strictly"),
        (lambda: sd.Table.from_alpha_bars([1.0, 0.5]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_alpha_bars([0.5, -0.1]), "alpha_bars must lie in"),
        (lambda: sd.Table.from_sigmas([1.0, 0.1]), "takes ascending sigmas: flip the list"),
        (lambda: sd.Table.from_sigmas([0.0, 0.1]), "sigmas must be positive"),
        (lambda: sd.Table.from_sigmas([0.1, math.nan]), "sigmas|knots"),
        (lambda: sd.VE(sigma_min=50.0, sigma_max=0.01), "sigma_min"),
        (lambda: sd.VE(sigma_min=0.0), "sigma_min"),
        (lambda: sd.VP(beta_min=-1.0), "beta_min"),
        (lambda: sd.VP(T=0.0), "T="),
    ],
)
def test_arguments_that_make_no_process_are_refused(make, message):
    with pytest.raises(sd.SDEError, match=message):
        make()
