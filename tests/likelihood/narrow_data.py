"""Gaussian data of any standard deviations in any directions, with everything in closed form under any process."""

import math

import torch

import sdediff as sd

F64 = torch.float64


def rotation(dims, seed=7):
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(dims, dims, generator=torch.Generator().manual_seed(seed), dtype=F64))[0]


class Narrow:
    """N(0, Q diag(std^2) Q^T) data in D dimensions."""

    def __init__(self, std, rotated=False):
        self.std = torch.tensor(std, dtype=F64)
        self.q = rotation(len(self.std)) if rotated else torch.eye(len(self.std), dtype=F64)

    def model(self, sde, stats=False):
        def net(x, t):
            alpha, sigma = (v.reshape(-1, 1) for v in sde.marginal(t.double()))
            z = x.double() @ self.q
            return (sigma * ((z / (alpha**2 * self.std**2 + sigma**2)) @ self.q.T)).to(x)

        return sd.ScoreModel(net, sde, predicts="eps", time="t", stats=self.statistics() if stats else None)

    def statistics(self):
        values, order = self.std.square().sort()
        cov = (self.q * self.std**2) @ self.q.T
        return sd.Statistics(
            0 * self.std, cov.diagonal().clone(), self.q.T[order].contiguous(), values, values[0].item()
        )

    def sample(self, n, seed=1):
        z = torch.randn(n, len(self.std), generator=torch.Generator().manual_seed(seed), dtype=F64)
        return (z * self.std) @ self.q.T

    def noised(self, n, sde, t, seed=1):
        """Samples of p_t."""
        alpha, sigma = (v.item() for v in sde.marginal(t))
        x = self.sample(n, seed)
        return alpha * x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(99 + seed), dtype=F64)

    def log_prob(self, x, sde=None, t=None):
        alpha, sigma = (1.0, 0.0) if sde is None else (v.item() for v in sde.marginal(t))
        variance = alpha**2 * self.std**2 + sigma**2
        return -0.5 * (((x @ self.q) ** 2 / variance).sum(1) + (2 * math.pi * variance).log().sum())


HALF_NARROW = [1e-4] * 32 + [0.5] * 32
