"""Networks in the plane that are not quite the score of target M, by name: eps (B, 2) of x and t."""

import math

import torch

import sdediff as sd
from tests.likelihood.gaussian_data import TargetM

F64 = torch.float64
SDE = sd.VP()
M = TargetM()
_TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)


def prior(z):
    """N(0, I): these networks have no p_T of their own."""
    return -0.5 * z.double().square().flatten(1).sum(1) - z[0].numel() / 2 * math.log(2 * math.pi)


class Untrained:
    """A network of three layers with random weights."""

    def __init__(self, seed, dims=2, width=32):
        generator = torch.Generator().manual_seed(seed)
        sizes = ((dims + 3, width), (width, width), (width, dims))
        self.weights = [torch.randn(*size, generator=generator, dtype=F64) / math.sqrt(size[0]) for size in sizes]

    def __call__(self, x, t):
        lam = lam_of(t)
        hidden = torch.cat([x.double(), lam / 4, torch.sin(2 * lam), torch.cos(3 * lam)], 1)
        for weight in self.weights[:2]:
            hidden = torch.tanh(1.5 * hidden @ weight)
        return hidden @ self.weights[2]


def lam_of(t):
    return SDE.lam(t.double())[:, None]


def sigma_of(t):
    return SDE.sigma(t.double())[:, None]


def exact(x, t):
    alpha, sigma = (v.double() for v in SDE.marginal(t.double()))
    var = alpha[:, None] ** 2 * M.std**2 + sigma[:, None] ** 2
    away = x.double()[:, None] - alpha[:, None, None] * M.mean
    logs = M.weight.log() - torch.log(2 * math.pi * var) - away.square().sum(2) / (2 * var)
    return sigma[:, None] * (torch.softmax(logs, 1)[..., None] * away / var[..., None]).sum(1)


_FIRST, _SECOND = Untrained(0), Untrained(1)
NETS = {
    "exact": exact,
    "no gradient": lambda x, t: exact(x, t) + 0.3 * sigma_of(t) * (x.double() @ _TURN),
    "biased": lambda x, t: exact(x, t) + 0.1,
    "scaled": lambda x, t: 1.1 * exact(x, t),
    "rough in t": lambda x, t: exact(x, t) * (1 + 0.1 * torch.sin(12 * lam_of(t))),
    "steps in t": lambda x, t: exact(x, t) + 0.05 * torch.tanh(8 * torch.sin(5 * lam_of(t))) * sigma_of(t) * x.double(),
    "poorly trained": lambda x, t: exact(x, t) + 0.2 * _FIRST(x, t),
    "untrained": lambda x, t: sigma_of(t) * x.double() + 0.4 * _SECOND(x, t),
}


def model(net):
    return sd.ScoreModel(net, SDE, predicts="eps", time="t")
