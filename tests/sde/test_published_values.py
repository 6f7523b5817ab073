"""Processes against published values."""

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64


def printed(text):
    """A value as it stands in a table: within 1e-10 or half a unit of its last digit."""
    digits, _, power = text.partition("e")
    half = 0.5 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return pytest.approx(float(text), rel=1e-10, abs=1.01 * half)


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
