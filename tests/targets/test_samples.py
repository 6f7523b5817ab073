"""Problems have the samples that they claim."""

import math

import pytest
import torch

from sdediff.grids.levels import levels
from sdediff.sde.processes import VP
from sdediff.targets import (
    PROBLEMS,
    gaussian,
    problem,
)


@pytest.mark.parametrize("name", ["gaussian", "target_m", "ring_unequal", "moons", "gmm64"])
def test_samples_have_the_exact_mean_and_covariance(name):
    m, n = problem(name), 20000
    x = m.sample(n, seed=5, dtype=torch.float64).reshape(n, -1)
    away = x - m.mean.reshape(-1)
    # Six standard errors on each entry, estimated from the samples: 64^2 entries pass at a chance of 1e-5 below.
    assert (away.mean(0).abs() <= 6 * away.std(0) / math.sqrt(n)).all()
    second, square = away.T @ away / n, away.square()
    error = ((square.T @ square / n - second.square()) / n).sqrt()
    assert ((second - m.cov).abs() <= 6 * error).all()


def test_samples_have_the_exact_weights():
    m, n = problem("ring_unequal"), 20000
    nearest = torch.cdist(m.sample(n, dtype=torch.float64), m.means).argmin(1)
    share = torch.bincount(nearest, minlength=8) / n
    # Modes are 10 standard deviations apart, so the nearest mean is the component.
    assert ((share - m.weights).abs() <= 5.5 * (m.weights * (1 - m.weights) / n).sqrt()).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_sample_depends_on_its_number_alone(name):
    m = problem(name)
    x = m.sample(70, seed=3)
    assert x.shape == (70, *m.shape)
    assert x.dtype == torch.float32
    assert torch.equal(m.sample(1, seed=3, index=41)[0], x[41])
    assert torch.equal(m.sample(30, seed=3, index=40), x[40:])
    assert torch.equal(m.sample(3, seed=3, index=[69, 0, 7]), x[[69, 0, 7]])
    assert torch.equal(m.sample(70, seed=3, dtype=torch.float64).float(), x)
    assert not torch.equal(m.sample(1, seed=4, index=41)[0], x[41])


def test_data_and_solver_noise_share_no_draw():
    from sdediff.noise.counter import Counter

    unit = gaussian(torch.zeros(4), std=1.0)
    row = levels(VP(), [1.0, 0.5])
    x0 = unit.sample(4000, dtype=torch.float64)
    for z in (Counter(0)(row[0], row[1], x0), Counter(0).initial(x0)):
        assert (x0 * z).mean().abs() < 5.5 / math.sqrt(x0.numel())
