"""How training times are distributed: each distribution maps uniform numbers to times, so that strata are kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import number
from sdediff._utils.errors import InputError
from sdediff._utils.roots import falling_root
from sdediff.sde.base import LinearSDE


class TimeDistribution(ABC):
    """Times between `low` and `high` from uniform numbers u (B,) in [0, 1), with their density."""

    @abstractmethod
    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        """The quantiles u of the distribution, float64 (B,)."""

    @abstractmethod
    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        """The probability density at times t (B,), a unit of time."""

    def timesteps(self, sde: LinearSDE, u: Tensor, last: float) -> Tensor:
        """The same on a table: whole numbers 1 .. last."""
        return (self.times(sde, u, 0.0, last).floor() + 1).clamp(1, last)


@dataclass(frozen=True)
class Uniform(TimeDistribution):
    """Evenly in t."""

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * u.double()

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        return torch.full_like(t, 1 / (high - low))


class _ByLevel(TimeDistribution):
    def timesteps(self, sde: LinearSDE, u: Tensor, last: float) -> Tensor:
        return self.times(sde, u, 1.0, last).round().clamp(1, last)


@dataclass(frozen=True)
class UniformLam(_ByLevel):
    """Evenly in half the log-SNR: the density is proportional to g^2/sigma^2 on every linear process.

    Song et al. 2021b, section 5 (importance sampling of the likelihood weight).
    """

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        first, last = sde.lam([low, high]).detach().tolist()
        return sde.t_of_lam(last + (first - last) * u.double())

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        first, last = sde.lam([low, high]).detach().tolist()
        return -_lam_rate(sde, t) / (first - last)


@dataclass(frozen=True)
class LogNormalSigma(_ByLevel):
    """log(sigma/alpha) ~ N(mean, std^2), within the bounds. Karras et al. 2022, table 1; EDM2 has (-0.4, 1)."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        _check_normal(self)

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        return sde.t_of_lam(-self.mean - self.std * _normal_quantiles(u, *self._ends(sde, low, high)))

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        z = (-sde.lam(t) - self.mean) / self.std
        return _normal_density(z, *self._ends(sde, low, high)) / self.std * -_lam_rate(sde, t)

    def _ends(self, sde: LinearSDE, low: float, high: float) -> tuple[float, float]:
        first, last = ((-v - self.mean) / self.std for v in sde.lam([low, high]).detach().tolist())
        return first, last


@dataclass(frozen=True)
class LogitNormal(TimeDistribution):
    """logit(t/T) ~ N(mean, std^2), within the bounds. Esser et al. 2024, section 3.1."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _check_normal(self)

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        z = _normal_quantiles(u, *self._ends(sde, low, high))
        return sde.T * torch.sigmoid(self.mean + self.std * z)

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        share = t / sde.T
        z = (torch.logit(share) - self.mean) / self.std
        return _normal_density(z, *self._ends(sde, low, high)) / (self.std * share * (1 - share) * sde.T)

    def _ends(self, sde: LinearSDE, low: float, high: float) -> tuple[float, float]:
        logits = torch.logit(torch.tensor([low, high], dtype=torch.float64) / sde.T)
        first, last = ((logits - self.mean) / self.std).tolist()
        return first, last


@dataclass(frozen=True)
class Mode(TimeDistribution):
    """t = f(u) = 1 - u - scale (cos^2(pi u/2) - 1 + u) on the interval. Esser et al. 2024, eq. 20.

    scale: in [-1, 2/(pi - 2)]; above 0 the middle is favoured, below 0 the ends.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1 <= number("scale", self.scale) <= 2 / (math.pi - 2):
            raise InputError(f"scale={self.scale}: give a number in [-1, {2 / (math.pi - 2):.4f}], else t turns back")

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.from_numpy(self._share(1 - u.double().numpy()))

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        u = torch.from_numpy(falling_root(self._share, ((t - low) / (high - low)).numpy(), 1.0))
        slope = 1 + self.scale * (1 - math.pi / 2 * torch.sin(math.pi * u))
        return 1 / (slope * (high - low))

    def _share(self, u: np.ndarray) -> np.ndarray:
        return 1 - u - self.scale * (np.cos(math.pi / 2 * u) ** 2 - 1 + u)


def _lam_rate(sde: LinearSDE, t: Tensor) -> Tensor:
    alpha_dot, sigma_dot = sde.slopes(t)
    return alpha_dot / sde.alpha(t) - sigma_dot / sde.sigma(t)


def _check_normal(given: LogNormalSigma | LogitNormal) -> None:
    number("mean", given.mean)
    if not number("std", given.std) > 0:
        raise InputError(f"std={given.std}: give a positive standard deviation")


def _normal_quantiles(u: Tensor, low: float, high: float) -> Tensor:
    """Quantiles of the unit normal between two bounds."""
    first, last = torch.special.ndtr(torch.tensor([low, high], dtype=torch.float64))
    return torch.special.ndtri(first + (last - first) * u.double()).clamp(low, high)


def _normal_density(z: Tensor, low: float, high: float) -> Tensor:
    first, last = torch.special.ndtr(torch.tensor([low, high], dtype=torch.float64)).tolist()
    return torch.exp(-z.square() / 2) / (math.sqrt(2 * math.pi) * (last - first))
