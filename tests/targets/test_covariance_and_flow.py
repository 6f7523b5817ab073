"""Problems have the covariances and flows that they claim."""

import pytest
import torch

from sdediff.sde.processes import VP, RectifiedFlow
from sdediff.targets import (
    Mixture,
    gaussian,
    problem,
    target_m,
)
from tests.targets.problems import SMALL, dense, every_process, noised


def test_low_rank_and_diagonal_forms_agree():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    variances = torch.rand(3, 6, generator=generator, dtype=torch.float64) + 0.1
    variances[:, 4:] = 0.1
    weights = torch.tensor([0.2, 0.5, 0.3])
    diagonal = Mixture(weights, means, variances)
    basis = torch.eye(6, dtype=torch.float64)[:, :4].expand(3, 6, 4)
    low = Mixture(weights, means, variances[:, :4] - 0.1, basis, 0.1 * torch.ones(3).double())
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    for t in (1e-4, 0.3, 1.0):
        ends = [[m.log_prob(x, VP(), t), m.score(x, VP(), t), m.denoised(x, VP(), t)] for m in (diagonal, low)]
        torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(diagonal.cov, low.cov)


def test_mean_covariance_and_spectrum():
    m = SMALL["low_rank"]
    away = m.means - m.weights @ m.means
    expected = torch.einsum("k,kij->ij", m.weights, dense(m)) + (m.weights[:, None] * away).T @ away
    torch.testing.assert_close(m.cov, expected, rtol=1e-12, atol=1e-12)
    assert m.mean.shape == m.shape
    assert m.spectrum.sum().item() == pytest.approx(expected.trace().item())
    assert (m.spectrum.diff() <= 0).all()


@pytest.mark.parametrize(
    "m",
    [problem("gaussian"), gaussian([1.0, 2.0, 0.0], std=[0.1, 1.0, 2.0]), gaussian([0.0] * 3, spectrum=[4, 1, 1e-4])],
    ids=["cov", "std", "spectrum"],
)
@every_process
def test_flow_solves_the_probability_flow_ode(m, sde):
    t, low, high = sde.t_max, sde.t_min, sde.t_max
    x, model = noised(m, sde, t), m.model(sde)
    for s in (low, low + 0.234 * (high - low), low + 0.71 * (high - low)):
        at = torch.full((len(x),), s, dtype=torch.float64).requires_grad_(True)
        live = m.flow(x, sde, t, at)
        slope = torch.stack([torch.autograd.grad(v.sum(), at, retain_graph=True)[0] for v in live.T], 1)
        here = live.detach()
        velocity = model(here, s).velocity
        assert (slope - velocity).abs().max() <= 1e-9 * (1 + velocity.abs().max()) / min(1, s)
        torch.testing.assert_close(m.flow(here, sde, s, t), x, rtol=1e-9, atol=1e-9)


def test_flow_starts_where_alpha_is_zero_and_refuses_mixtures():
    m, sde = problem("gaussian"), RectifiedFlow()
    x = m.sample(5, dtype=torch.float64)
    z = m.flow(x, sde, 1e-9, 1.0)
    torch.testing.assert_close(m.flow(z, sde, 1.0, 1e-9), x, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="one Gaussian alone"):
        target_m().flow(x, sde, 1.0, 0.5)
