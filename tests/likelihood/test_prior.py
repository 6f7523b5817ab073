"""Priors matched to moments of the data."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.two_pass_helpers import TIGHT, with_stats

F64 = torch.float64


@pytest.fixture(scope="module")
def m():
    return sd.problem("target_m")


@pytest.fixture(scope="module")
def points(m):
    return m.sample(256, seed=1, dtype=F64)


def test_moment_matched_priors_are_the_normals_they_name():
    g, sde = sd.problem("gaussian"), sd.VP()
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(4), dtype=F64)
    alpha, sigma = (v.item() for v in sde.marginal(1.0))
    mean, eye = alpha * g.mean, torch.eye(2, dtype=F64)
    covs = {
        "full": g.cov,
        "diagonal": torch.diag(g.cov.diagonal()),
        "std": g.cov.trace() / 2 * eye,
    }
    from sdediff.likelihood.ends import log_prior

    model = with_stats(g, sde)
    for name, cov in covs.items():
        exact = torch.distributions.MultivariateNormal(mean, alpha**2 * cov + sigma**2 * eye).log_prob(z)
        torch.testing.assert_close(log_prior(name, model, z), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_prior("full", model, z), g.log_prob(z, sde, 1.0), rtol=0, atol=1e-12)


def test_a_low_rank_prior_is_the_same_normal():
    d, sde = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=F64))[0], sd.VE()
    stats = sd.Statistics(torch.ones(5).double(), torch.ones(5).double(), d[:2], torch.tensor([3.0, 2.0]).double(), 0.5)
    model = sd.ScoreModel(lambda x, t: x, sde, stats=stats)
    z = 50 * torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    from sdediff.likelihood.ends import log_prior

    cov = stats.covariance() + 2500 * torch.eye(5).double()
    exact = torch.distributions.MultivariateNormal(stats.mean, cov).log_prob(z)
    torch.testing.assert_close(log_prior("auto", model, z), exact, rtol=0, atol=1e-9)


def test_a4_the_full_prior_takes_the_floor(m, points):
    # Target M under VP: about 5e-3 nats with N(0, sigma_T^2 I), 1e-6 with mean and covariance.
    errors = {}
    for prior in ("sigma", "full"):
        found = sd.log_likelihood(with_stats(m, sd.VP()), points, **TIGHT, end="t0", prior=prior)
        errors[prior] = (found.log_prob - m.log_prob(points, sd.VP(), 1e-5)).abs().max().item()
    assert errors["sigma"] > 2e-3
    assert errors["full"] < 1e-5
