"""p(x0 | x_t): golden values of the discretised Gaussian, and levels far and near."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood.decoder import gaussian_log_prob, level_log_prob

F64 = torch.float64


@pytest.fixture(scope="module")
def m():
    return sd.problem("target_m")


@pytest.mark.parametrize(
    ("x", "mean", "std", "value"),
    [
        (0.0, 0.0, 0.01, -1.18725438924),
        (0.5, 0.4, 0.1, -3.96446984421),
        (-1.0, -1.0, 0.05, -0.632508364681),
        (1.0, 0.9, 0.05, -3.5997691936),
    ],
)
def test_the_discretised_gaussians_golden_values(x, mean, std, value):
    bins = sd.Discrete(256, mapping="ends")
    found = gaussian_log_prob(torch.tensor([[x]], dtype=F64), torch.tensor([[mean]], dtype=F64), math.log(std), bins)
    assert found.item() == pytest.approx(value, rel=1e-11)


@pytest.mark.parametrize("mapping", ["cells", "ends"])
@pytest.mark.parametrize("std", [1e-3, 0.05, 3.0])
def test_probabilities_of_levels_add_up_to_one(mapping, std):
    bins = sd.Discrete(17, (0.0, 2.0), mapping)
    values = bins.values[:, None]
    mean = torch.full_like(values, 0.37)
    assert gaussian_log_prob(values, mean, math.log(std), bins).exp().sum().item() == pytest.approx(1, abs=1e-12)
    here = sd.level(sd.VE(), 0.3)
    assert level_log_prob(values, mean, here, bins).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_far_level_has_a_finite_log_probability():
    bins = sd.Discrete(256)
    x, mean = torch.full((1, 1), bins.values[0].item(), dtype=F64), torch.ones(1, 1, dtype=F64)
    far = gaussian_log_prob(x + bins.width, mean, math.log(0.01), bins).item()
    assert -math.inf < far < -1e4


@pytest.mark.parametrize(
    ("mapping", "first", "last", "bits"), [("cells", -255 / 256, 255 / 256, 7.0), ("ends", -1.0, 1.0, math.log2(127.5))]
)
def test_where_levels_lie(mapping, first, last, bits):
    d = sd.Discrete(256, mapping=mapping)
    assert (d.values[0].item(), d.values[-1].item()) == pytest.approx((first, last), abs=1e-15)
    assert -math.log2(d.width) == pytest.approx(bits)
    assert d.checked(d.values[:, None].float()).shape == (256, 1)


def test_dequantised_data_are_no_levels(m):
    x = torch.full((3, 2), 0.1)
    with pytest.raises(ValueError, match=r"row 0 of x is .* of a bin away .* not dequantised data"):
        sd.log_likelihood(m.model(sd.VP()), x, method="vlb", steps=4, discrete=sd.Discrete(4))
