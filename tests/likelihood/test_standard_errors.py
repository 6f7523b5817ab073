"""std_error: 1.96 of it cover 95 % of the errors by the probes, for every kind of probe and both methods."""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood.student import Spread
from tests.likelihood.narrow_data import Narrow

F64, N = torch.float64, 600
DATA = {
    "16": Narrow([0.05, 0.1, 0.2, 0.3] * 4, rotated=True),
    "narrow": Narrow([1e-3] * 16 + [0.4] * 16, rotated=True),
    "one narrow": Narrow([0.03] + [1.0] * 15, rotated=True),
    "one wide": Narrow([1.0] + [0.05] * 15, rotated=True),
}


def coverage(data, method, kind, probes, n=N):
    """The share of errors within 1.96 standard errors, beside the exact trace on the same path."""
    sde = sd.VP()
    x, tolerance = data.noised(n, sde, sde.t0), 1e-4 if method == "ode" else 1e-3
    options = {"method": method, "rtol": tolerance, "atol": tolerance, "end": "t0", "dtype": F64, "micro_batch": n}
    found = sd.log_likelihood(data.model(sde), x, trace=kind, probes=probes, seed=3, **options)
    exact = sd.log_likelihood(data.model(sde), x, trace="exact", **options)
    return ((found.log_prob - exact.log_prob).abs() <= 1.96 * found.std_error).double().mean().item()


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
@pytest.mark.parametrize("method", ["two_pass", "ode"])
def test_coverage(method, kind, name):
    # The standard error of a share of .95 of 600 is .009: outside of .93 - 5 s.e. by chance < 1e-6.
    assert 0.93 - 5 * 0.009 < coverage(DATA[name], method, kind, 4) < 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
@pytest.mark.parametrize("method", ["two_pass", "ode"])
def test_coverage_of_every_cell(method, kind):
    # The standard error of a share of .95 of 2000 is .0049, that of the mean of eight .0017.
    cells = {
        (name, probes): coverage(data, method, kind, probes, 2000) for name, data in DATA.items() for probes in (4, 11)
    }
    assert all(0.93 - 4 * 0.0049 < share < 0.97 + 4 * 0.0049 for share in cells.values()), cells
    assert 0.93 < sum(cells.values()) / len(cells) < 0.97, cells


def test_the_quantile_of_a_single_estimate_is_students():
    from scipy import stats

    for probes in (2, 3, 4, 6, 11, 17, 100):
        spread = Spread.of(torch.ones(1, dtype=F64), probes - 1)
        exact = stats.t.ppf(0.975, probes - 1) / stats.norm.ppf(0.975)
        assert spread.std_error.item() == pytest.approx(exact, rel=5e-3)


def test_many_estimates_have_the_normal_quantile():
    # 400 equal estimates of one degree of freedom each: Satterthwaite's is 3 * 400 - 2.
    one = torch.ones(1, dtype=F64)
    spread = Spread(400 * one, 400 * one**2 / 3)
    assert spread.std_error.item() == pytest.approx(math.sqrt(400), rel=3e-3)
