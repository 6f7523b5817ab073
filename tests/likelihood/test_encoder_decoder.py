"""The bound on log p(image) of a linear-Gaussian autoencoder against quadrature, and of a small network by parts."""

import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.likelihood import decoder_std, encoder_decoder_bound

F64 = torch.float64
STD = 0.3


class Linear:
    """x (B, 3, 1, 1) in two latents: z = A x + a with deviations of q, x = W z + w."""

    a = torch.tensor([[0.5, -0.2, 0.3], [0.1, 0.4, -0.6]], dtype=F64)
    w = torch.tensor([[1.2, 0.1], [-0.4, 0.8], [0.3, -0.9]], dtype=F64)
    deviation = torch.tensor([0.4, 0.25], dtype=F64)

    def posterior(self, images):
        mean = images.double().flatten(1) @ self.a.T + 0.1
        return mean.reshape(-1, 2), self.deviation.expand(len(images), 2)

    def encode(self, images):
        return self.posterior(images)[0]

    def decode(self, latents):
        return (latents.double() @ self.w.T - 0.05).reshape(-1, 3, 1, 1)


MEAN, COV = torch.tensor([0.2, -0.3], dtype=F64), torch.tensor([[0.6, 0.2], [0.2, 0.5]], dtype=F64)
X = torch.randn(3, 3, 1, 1, generator=torch.Generator().manual_seed(0), dtype=F64)


def model(autoencoder=None, covariance=COV):
    """Latents that are normally distributed, with their exact network and their statistics."""
    exact = sd.targets.gaussian(MEAN, cov=covariance).model(sd.VP())
    values, vectors = torch.linalg.eigh(covariance)
    stats = sd.Statistics(MEAN, covariance.diagonal(), vectors.T.contiguous(), values, 0.0)
    return sd.ScoreModel(exact.net, exact.sde, "v", stats=stats, autoencoder=autoencoder)


def quadrature(nodes=40):
    """E_q[log p(x|z) + log p(z) - log q(z)] by Gauss and Hermite's rule in both latents."""
    points, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    weights = weights / weights.sum()
    grid = torch.stack(torch.meshgrid(points, points, indexing="ij"), -1).reshape(-1, 2)
    both = torch.outer(weights, weights).reshape(-1)
    coder = Linear()
    mean, deviation = coder.posterior(X)
    prior = torch.distributions.MultivariateNormal(MEAN, COV)
    found = []
    for m, s, x in zip(mean, deviation, X, strict=True):
        z = m + s * grid
        q = torch.distributions.Normal(m, s).log_prob(z).sum(1)
        p = torch.distributions.Normal(coder.decode(z).flatten(1), STD).log_prob(x.flatten()).sum(1)
        found.append((both * (p + prior.log_prob(z) - q)).sum())
    return torch.stack(found)


TIGHT = {"rtol": 1e-7, "atol": 1e-7, "trace": "exact", "dtype": F64}


def test_the_bound_is_quadratures_on_a_linear_gaussian_autoencoder():
    found = encoder_decoder_bound(model(Linear()), X, std=STD, draws="cubature", **TIGHT)
    torch.testing.assert_close(found.log_prob, quadrature(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.log_prob, sum(found.terms.values()))
    assert (found.solver_error < 1e-5).all()
    assert found.dims == 3
    assert "encoder_decoder_vlb" in repr(found)
    entropy = (Linear.deviation.log() + math.log(2 * math.pi * math.e) / 2).sum()
    torch.testing.assert_close(found.terms["entropy"], entropy.expand(3))
    # x = W z + w + STD noise is normally distributed: the bound lies below its exact log density.
    cov = Linear.w @ COV @ Linear.w.T + STD**2 * torch.eye(3, dtype=F64)
    exact = torch.distributions.MultivariateNormal(Linear.w @ MEAN - 0.05, cov).log_prob(X.flatten(1))
    assert (found.log_prob < exact).all()


def test_the_posterior_itself_makes_the_bound_exact():
    class Exact(Linear):
        """One latent a dimension of its own, whose posterior has the encoder's diagonal form."""

        w = torch.eye(3, dtype=F64)[:, :2] * 0.8

        def posterior(self, images):
            variance = 1 / (1 / COV.diagonal() + 0.64 / STD**2)
            mean = variance * (0.8 * (images.flatten(1)[:, :2] + 0.05) / STD**2 + MEAN / COV.diagonal())
            return mean, variance.sqrt().expand(len(images), 2)

    diagonal = torch.diag(COV.diagonal())
    made = model(Exact(), diagonal)
    found = encoder_decoder_bound(made, X, std=STD, draws="cubature", **TIGHT)
    cov = Exact.w @ diagonal @ Exact.w.T + STD**2 * torch.eye(3, dtype=F64)
    exact = torch.distributions.MultivariateNormal(Exact.w @ MEAN - 0.05, cov).log_prob(X.flatten(1))
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=1e-5)


def test_draws_agree_with_cubature_within_their_error():
    made, quick = model(Linear()), {"trace": "exact", "dtype": F64, "rtol": 1e-3, "atol": 1e-3}
    found = encoder_decoder_bound(made, X, std=STD, draws=16, seed=2, **quick)
    assert (found.std_error > 0).all()
    assert ((found.log_prob - quadrature()).abs() < 5 * found.std_error + 1e-2).all()
    assert encoder_decoder_bound(made, X, std=STD, draws=2, **quick).std_error.isnan().all()


def test_what_has_no_bound_is_refused():
    with pytest.raises(sd.Error, match="has no autoencoder, its states are the data"):
        encoder_decoder_bound(model(), X, std=STD)
    coder = Linear()
    coder_without = type("Codes", (), {"encode": coder.encode, "decode": coder.decode})()
    with pytest.raises(sd.Error, match=r"Codes has no posterior\(images\)"):
        encoder_decoder_bound(model(coder_without), X, std=STD)
    for draws, match in ((3, "give an even number"), ("many", "cubature")):
        with pytest.raises(sd.Error, match=match):
            encoder_decoder_bound(model(coder), X, std=STD, draws=draws)
    with pytest.raises(sd.Error, match="std=0"):
        encoder_decoder_bound(model(coder), X, std=0.0)
    with pytest.raises(sd.Error, match="as its autoencoder says, this network models the latents"):
        sd.log_likelihood(model(coder), torch.zeros(1, 2, dtype=F64))


def test_the_decoders_deviation_is_that_of_its_errors():
    coder = Linear()
    again = coder.decode(coder.encode(X))
    assert decoder_std(model(coder), X) == pytest.approx((X - again).square().mean().sqrt().item())
