"""Problems have the densities and scores that they claim, checked by other routes."""

import pytest
import torch

from sdediff.sde.processes import EDM, VP, RectifiedFlow
from sdediff.targets import (
    problem,
)
from tests.targets.problems import SMALL, dense, every_process, noised

every_small = pytest.mark.parametrize("name", SMALL)


def times(sde):
    """Both ends (alpha = 0 and the smallest sigma included) and three times between."""
    low, high = sde.t0, sde.T
    return [low, low + 0.01 * (high - low), low + 0.3 * (high - low), sde.t_max, high]


def torchs(m, alpha, sigma):
    """The same mixture in torch.distributions, noised."""
    cov = alpha**2 * dense(m) + sigma**2 * torch.eye(m.dim, dtype=torch.float64)
    parts = torch.distributions.MultivariateNormal(alpha * m.means, cov)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(m.weights), parts)


@every_process
@every_small
def test_score_is_the_gradient_of_log_prob(name, sde):
    m = SMALL[name]
    for t in times(sde):
        x = noised(m, sde, t).requires_grad_(True)
        expected = torch.autograd.grad(m.log_prob(x, sde, t).sum(), x)[0]
        error = (m.score(x, sde, t) - expected).abs().max()
        assert error <= 1e-9 * (1 + expected.abs().max()), t


@every_process
@every_small
def test_model_says_the_same_score_and_denoiser(name, sde):
    m = SMALL[name]
    model = m.model(sde)
    for t in times(sde):
        x = noised(m, sde, t)
        said, score, x0 = model(x, t), m.score(x, sde, t), m.denoised(x, sde, t)
        assert said.raw.isfinite().all()
        # eps and score are differences of states at small sigma, so their digits are counted in x / sigma.
        sigma = sde.sigma(torch.tensor(t, dtype=torch.float64)).item()
        assert (said.score - score).abs().max() <= 1e-13 * (1 + x.abs().max()) * max(1, sigma**-2)
        assert (said.x0 - x0).abs().max() <= 1e-12 * (1 + x.abs().max())


@every_process
def test_tweedie_links_score_and_denoiser(sde):
    m = SMALL["low_rank"]
    for t in times(sde):
        x, time = noised(m, sde, t), torch.tensor(t, dtype=torch.float64)
        alpha, sigma = sde.alpha(time), sde.sigma(time)
        slip = alpha * m.denoised(x, sde, t) - x - sigma**2 * m.score(x, sde, t)
        assert slip.abs().max() <= 1e-12 * (1 + x.abs().max())


@every_small
def test_log_prob_equals_the_dense_mixture_of_torch(name):
    m = SMALL[name]
    for sde, t in ((None, None), (VP(), 1e-3), (VP(), 0.4), (EDM(), 80.0), (RectifiedFlow(), 1.0)):
        time = torch.tensor(t or 0.0, dtype=torch.float64)
        alpha, sigma = (sde.alpha(time), sde.sigma(time)) if sde else (torch.ones(()), torch.zeros(()))
        x = noised(m, sde, t) if sde else m.sample(50, dtype=torch.float64)
        expected = torchs(m, alpha.double(), sigma.double()).log_prob(x.reshape(len(x), -1))
        torch.testing.assert_close(m.log_prob(x, sde, t), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["gaussian", "target_m", "ring", "moons"])
@pytest.mark.parametrize("t", [None, 0.2, 1.0])
def test_density_integrates_to_one(name, t):
    axis = torch.arange(-6, 6, 0.04, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    logs = problem(name).log_prob(points, None if t is None else VP(), t)
    assert abs(logs.exp().sum().item() * 0.04**2 - 1) < 2e-7
