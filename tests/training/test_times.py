"""Distributions of training times: golden values, densities against quantiles, strata, tables."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.training import (
    SPREADS,
    LogitNormal,
    LogNormalSigma,
    Mixture,
    Mode,
    Shifted,
    Uniform,
    UniformLam,
    lam_weight,
    training_times,
)

F64 = torch.float64
FLOW = sd.RectifiedFlow()
ALL = [
    Uniform(), UniformLam(), LogNormalSigma(), LogNormalSigma(-0.4, 1.0), LogitNormal(), LogitNormal(0.5, 0.7), Mode(),
    Mode(-0.8), Shifted(), Shifted(LogitNormal(), 2.0), Mixture(0.3), Mixture(0.6, LogitNormal(), Uniform()),
]  # fmt: skip


def row(*values):
    return torch.tensor(values, dtype=F64)


def test_esser_2024_logit_normal_density():
    found = LogitNormal().density(FLOW, row(0.1, 0.5), 0.0, 1.0)
    torch.testing.assert_close(found, row(0.396574704357, 1.59576912161), rtol=1e-11, atol=0)


def test_esser_2024_mode_and_shift():
    # f(.1) falls with u; times rise with it.
    assert Mode(1.29).times(FLOW, row(0.9), 0.0, 1.0).item() == pytest.approx(0.802568546990, rel=1e-11)
    t = row(0.0, 0.1, 0.5, 1.0)
    torch.testing.assert_close(Shifted(Uniform(), 3.0).times(FLOW, t, 0.0, 1.0), 3 * t / (1 + 2 * t))


def test_karras_2022_noise_levels():
    times = LogNormalSigma().times(sd.EDM(), row(0.5, 0.8413447460685429), 0.002, 80.0)
    torch.testing.assert_close(times.log(), row(-1.2, 0.0), rtol=1e-4, atol=1e-4)


GOLDEN = [
    (sd.VP(), 1e-5, 23.8644723655), (sd.VP(), 1e-3, 19.1653866788), (sd.SubVP(), 1e-5, 37.6789457319),
    (sd.SubVP(), 1e-3, 28.2808833076), (sd.VE(), 0.0, 17.0343863828),
]  # fmt: skip


@pytest.mark.parametrize(("sde", "low", "expected"), GOLDEN)
def test_the_likelihood_weight_is_uniform_lam_times_z(sde, low, expected):
    assert lam_weight(sde, low, 1.0) == pytest.approx(expected, rel=1e-11)


def test_vp_quantiles_of_uniform_lam():
    found = UniformLam().times(sd.VP(), row(0.9, 0.5, 0.1), 1e-5, 1.0).sort().values
    expected = row(1.07701403475e-4, 0.114421448730, 0.872627658764)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
@pytest.mark.parametrize("sde", [sd.VP(), sd.VE(), FLOW], ids=["vp", "ve", "flow"])
def test_densities_are_the_slopes_of_the_quantiles(distribution, sde):
    low, high = (0.02, 0.97) if sde is not FLOW else (0.01, 0.98)
    h, u = 1e-5, torch.linspace(0.013, 0.987, 41, dtype=F64)
    u = u[(u - 0.3).abs().gt(1e-3) & (u - 0.6).abs().gt(1e-3)]  # between the parts of a mixture
    if isinstance(distribution, Mixture):
        # A mixture's quantiles are its parts', one after the other: its mean of 1/density is not theirs, moments are.
        t = distribution.times(sde, (torch.arange(40_000, dtype=F64) + 0.5) / 40_000, low, high)
        grid = low + (high - low) * (torch.arange(4000, dtype=F64) + 0.5) / 4000
        density = distribution.density(sde, grid, low, high)
        for moment in (0, 1, 2):
            by_density = ((high - low) * density * grid**moment).mean().item()
            assert (t**moment).mean().item() == pytest.approx(by_density, rel=2e-3)
        return
    times = [distribution.times(sde, u + shift, low, high) for shift in (-h, 0.0, h)]
    slope = (times[2] - times[0]).abs() / (2 * h)
    density = distribution.density(sde, times[1], low, high)
    torch.testing.assert_close(density * slope, torch.ones_like(u), rtol=1e-5, atol=0)
    ends = distribution.times(sde, row(0.0, 1 - 1e-12), low, high).sort().values
    torch.testing.assert_close(ends, row(low, high), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_tables_are_trained_at_whole_numbers(distribution):
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 100, dtype=F64))
    u = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    times = training_times(table, u, distribution)
    assert torch.equal(times, times.round())
    assert times.min() >= 1
    assert times.max() <= 100
    if isinstance(distribution, Uniform):
        assert times.unique(return_counts=True)[1].tolist() == [200] * 100


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LogitNormal(std=0), "std=0: give a positive"), (lambda: Mode(2.0), "scale=2.0: give a number in"),
        (lambda: Shifted(shift=-1), "shift=-1: give a positive"), (lambda: Mixture(1.0), "share=1.0: give a number"),
        (lambda: training_times(FLOW, row(0.5), "logitnormal"), "'logit_normal'"),
        (lambda: Shifted(base=3), "spread=3: write one of"),
    ],
)  # fmt: skip
def test_distributions_that_are_none_are_refused(make, match):
    with pytest.raises(sd.Error, match=match):
        make()


def test_every_name_has_defaults():
    u = row(0.25, 0.5, 0.75)
    for name in SPREADS:
        times = training_times(sd.VP(), u, name)
        assert ((times > 0) & (times < 1)).all()
        assert math.isfinite(SPREADS[name]().density(sd.VP(), times, 1e-3, 1.0).sum())
