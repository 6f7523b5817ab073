"""Networks, a process and a clock as a user of the package writes them, in a module that can be imported."""

import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

import sdediff as sd


class Net(nn.Module):
    """Arguments of many kinds; its `config` is not kept."""

    def __init__(self, dim, widths=(8, 8), kind=nn.SiLU, dtype=torch.float32, scale=1.0):
        super().__init__()
        sizes = (dim + 1, *widths, dim)
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b, dtype=dtype), kind()]
        self.layers, self.scale = nn.Sequential(*layers[:-1]), scale
        assert isinstance(widths, tuple)

    def forward(self, x, t):
        return self.scale * self.layers(torch.cat([x, t[:, None].to(x)], dim=1))


class Tied(nn.Module):
    """No arguments, two names for one weight, integer and infinite buffers, one buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.0, 0.0, 0.0]))
        self.register_buffer("order", torch.tensor([4, 3, 2, 1, 0]))
        self.register_buffer("table", torch.linspace(0, 1, 1000, dtype=torch.float64), persistent=False)

    def forward(self, x, t):
        shift = self.table[t.long()].to(x)[:, None]
        return self.second(torch.tanh(self.first(x[:, self.order]))) + torch.exp(self.mask) + shift


class Configured(nn.Module):
    """Keeps its arguments beside facts of its own, as diffusers' classes do."""

    def __init__(self, width=4, **more):
        super().__init__()
        self.config = {"width": width, "_class_name": "Configured"}
        self.layer = nn.Linear(5, width)
        self.back = nn.Linear(width, 5)

    def forward(self, x, t):
        return SimpleNamespace(sample=self.back(self.layer(x)))


class NoMeta(nn.Module):
    """Looks at the numbers of its tensors while it is built."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.norm = float(self.layer.weight.detach().norm() * 0 + 2)

    def forward(self, x, t):
        return self.layer(x) / self.norm


@dataclass(frozen=True)
class Ramp(sd.LinearSDE):
    """alpha = 1, sigma = rate t."""

    rate: float = 2.0
    T: float = 1.0
    t_min: float = 1e-3

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return self.rate * t


def root(level):
    """The clock sqrt(t)."""
    return level.time**0.5


def model():
    """A factory."""
    net = Net(5)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape) / (i + 1))
    return sd.ScoreModel(net, sd.VP(), card={"data": {"shape": [5]}})


ready = model()
network = Net(5)
nothing = None


def raises():
    raise KeyError("weights.pt")


def leaves():
    raise SystemExit(1)


def wants(path):
    return path


def gives_none():
    return None
