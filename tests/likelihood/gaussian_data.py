"""Data with densities, scores and flows in closed form under any process."""

import functools
import math

import torch

import sdediff as sd

F64 = torch.float64
ode = functools.partial(sd.log_likelihood, method="ode")
# The networks here are plain functions, so the states' dtype is said.
TIGHT = {"integrator": "DOP853", "rtol": 1e-9, "atol": 1e-9, "trace": "exact", "dtype": F64}


class Gaussian:
    """N(mean, cov) data: density, score network and flow in closed form under any process."""

    def __init__(self, mean, cov):
        self.mean = torch.tensor(mean, dtype=F64)
        self.cov = torch.tensor(cov, dtype=F64)

    def spread(self, sde, t):
        alpha, sigma = (v.item() for v in sde.marginal(t))
        return alpha, alpha**2 * self.cov + sigma**2 * torch.eye(len(self.mean), dtype=F64)

    def log_prob(self, x, sde=None, t=None):
        alpha, cov = (1.0, self.cov) if sde is None else self.spread(sde, t)
        return torch.distributions.MultivariateNormal(alpha * self.mean, cov).log_prob(x)

    def sample(self, n, seed=0):
        z = torch.randn(n, len(self.mean), generator=torch.Generator().manual_seed(seed), dtype=F64)
        return self.mean + z @ torch.linalg.cholesky(self.cov).T

    def model(self, sde):
        variances, axes = torch.linalg.eigh(self.cov)

        def net(x, t):
            alpha, sigma = (v[:, None] for v in sde.marginal(t.double()))
            away = (x.double() - alpha * self.mean) @ axes
            return (-(away / (alpha**2 * variances + sigma**2)) @ axes.T).to(x)

        return sd.ScoreModel(net, sde, predicts="score", time="t")


class TargetM:
    """The mixture of acceptance.md: three isotropic Gaussians in the plane."""

    mean = torch.tensor([[-1.5, 0.0], [1.0, 1.2], [0.8, -1.0]], dtype=F64)
    std = torch.tensor([0.25, 0.35, 0.15], dtype=F64)
    weight = torch.tensor([0.3, 0.4, 0.3], dtype=F64)

    def parts(self, x, alpha, sigma):
        alpha, sigma = (torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (alpha, sigma))
        var = alpha**2 * self.std**2 + sigma**2
        away = x[:, None] - alpha[..., None] * self.mean
        logs = self.weight.log() - torch.log(2 * math.pi * var) - away.square().sum(2) / (2 * var)
        return var, away, logs

    def log_prob(self, x, sde=None, t=None):
        alpha, sigma = (1.0, 0.0) if sde is None else (v.item() for v in sde.marginal(t))
        return torch.logsumexp(self.parts(x, alpha, sigma)[2], 1)

    def sample(self, n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        k = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        return self.mean[k] + self.std[k, None] * torch.randn(n, 2, generator=generator, dtype=F64)

    def model(self, sde):
        def net(x, t):
            var, away, logs = self.parts(x, *sde.marginal(t.double()))
            return -(torch.softmax(logs, 1) / var)[..., None].mul(away).sum(1).to(x)

        return sd.ScoreModel(net, sde, predicts="score", time="t")


PLANE = Gaussian([0.5, -0.3], [[1.0, 0.6], [0.6, 0.5]])
SPACE = Gaussian([0.5, -1.0, 2.0], [[0.6, 0.2, 0.0], [0.2, 0.3, -0.1], [0.0, -0.1, 1.5]])


def true_prior(target, sde):
    return lambda z: target.log_prob(z, sde, sde.t_max)
