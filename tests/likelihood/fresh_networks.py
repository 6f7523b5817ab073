"""Networks by name, eps (B, D) of x and t, with their data: NETS served to choose the constants of `solver_error`.

Nothing was chosen on HELD_OUT.
"""

import math

import torch

from tests.likelihood.imperfect_networks import SDE, Untrained, lam_of, sigma_of

F64 = torch.float64


class Mixture:
    """Isotropic Gaussians of random means and standard deviations, with their exact eps."""

    def __init__(self, seed, dims, parts, spread=1.5):
        generator = torch.Generator().manual_seed(seed)
        self.mean = spread * torch.randn(parts, dims, generator=generator, dtype=F64)
        self.std = 0.15 + 0.35 * torch.rand(parts, generator=generator, dtype=F64)

    def sample(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        k = torch.randint(len(self.std), (n,), generator=generator)
        return self.mean[k] + self.std[k, None] * torch.randn(n, self.mean.shape[1], generator=generator, dtype=F64)

    def eps(self, x, t):
        alpha, sigma = (v.double()[:, None] for v in SDE.marginal(t.double()))
        var = alpha**2 * self.std**2 + sigma**2
        away = x.double()[:, None] - alpha[..., None] * self.mean
        logs = -x.shape[1] / 2 * torch.log(2 * math.pi * var) - away.square().sum(2) / (2 * var)
        return sigma * (torch.softmax(logs, 1)[..., None] * away / var[..., None]).sum(1)


def curl(x):
    return torch.stack([torch.sin(x[:, 1]), -x[:, 0]], 1).double()


A, B, C, E = Mixture(1, 2, 5), Mixture(2, 4, 4), Mixture(3, 3, 3), Mixture(4, 8, 6, 1.0)
_PLANE, _FOUR, _SPACE = Untrained(13, 2), Untrained(11, 4, 16), Untrained(12, 3, 24)
NETS = {
    "five modes": (A, A.eps),
    "eight dimensions": (E, E.eps),
    "curl": (A, lambda x, t: A.eps(x, t) + 0.4 * sigma_of(t) * curl(x)),
    "wave": (A, lambda x, t: A.eps(x, t) + 0.08 * torch.sin(3 * x.double())),
    "scaled down": (B, lambda x, t: 0.92 * B.eps(x, t)),
    "fast in t": (A, lambda x, t: A.eps(x, t) * (1 + 0.06 * torch.cos(20 * lam_of(t)))),
    "poorly trained": (A, lambda x, t: A.eps(x, t) + 0.15 * _PLANE(x, t)),
    "poorly trained, four dimensions": (B, lambda x, t: B.eps(x, t) + 0.3 * _FOUR(x, t)),
    "untrained, three dimensions": (C, lambda x, t: sigma_of(t) * x.double() + 0.5 * _SPACE(x, t)),
}

P, Q, R = Mixture(31, 3, 4), Mixture(32, 5, 5), Mixture(33, 2, 6, 2.0)
_FIVE = Untrained(41, 5, 20)
_TURN = torch.randn(5, 5, generator=torch.Generator().manual_seed(9), dtype=F64)
HELD_OUT = {
    "bump": (P, lambda x, t: P.eps(x, t) + 0.1 * torch.tanh(2 * x.double() - 0.5)),
    "rotation": (Q, lambda x, t: Q.eps(x, t) + 0.2 * sigma_of(t) * x.double() @ ((_TURN - _TURN.T) / 4)),
    "lagging": (R, lambda x, t: R.eps(x, (t * 0.97).clamp(min=1e-5))),
    "poorly trained, five dimensions": (Q, lambda x, t: Q.eps(x, t) + 0.15 * _FIVE(x, t)),
    "product": (R, lambda x, t: R.eps(x, t) + 0.06 * torch.sin(4 * x.double().flip(1)) * torch.cos(2 * x.double())),
}
