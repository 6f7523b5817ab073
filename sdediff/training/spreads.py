"""Distributions of training times made of others, all of them by name, and the draw itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from sdediff._utils.checks import number, shown
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.suggestions import nearest
from sdediff.sde.base import LinearSDE
from sdediff.training.times import LogitNormal, LogNormalSigma, Mode, TimeDistribution, Uniform, UniformLam

Time = TypeVar("Time", float, Tensor)


@dataclass(frozen=True)
class Shifted(TimeDistribution):
    """Times of another distribution moved towards noise: t/T -> shift t/(T + (shift - 1) t). Esser et al. 2024, eq. 23.

    shift: 3 for images of 1024 x 1024 in that paper; 1 changes nothing.
    """

    base: TimeDistribution = field(default_factory=Uniform)
    shift: float = 3.0

    def __post_init__(self) -> None:
        if not number("shift", self.shift) > 0:
            raise InputError(f"shift={self.shift}: give a positive number")
        object.__setattr__(self, "base", time_distribution(self.base))

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        before = self.base.times(sde, u, self._back(low, sde.T), self._back(high, sde.T))
        return self.shift * before / (1 + (self.shift - 1) * before / sde.T)

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        ends = self._back(low, sde.T), self._back(high, sde.T)
        slope = self.shift / (self.shift - (self.shift - 1) * t / sde.T) ** 2
        return self.base.density(sde, self._back(t, sde.T), *ends) * slope

    def _back(self, t: Time, T: float) -> Time:
        return t / (self.shift - (self.shift - 1) * t / T)


@dataclass(frozen=True)
class Mixture(TimeDistribution):
    """A share of the times by one distribution, the rest by another."""

    share: float = 0.5
    first: TimeDistribution = field(default_factory=Uniform)
    second: TimeDistribution = field(default_factory=UniformLam)

    def __post_init__(self) -> None:
        if not 0 < number("share", self.share) < 1:
            raise InputError(f"share={self.share}: give a number between 0 and 1")
        for name in ("first", "second"):
            object.__setattr__(self, name, time_distribution(getattr(self, name)))

    def times(self, sde: LinearSDE, u: Tensor, low: float, high: float) -> Tensor:
        share, u = self.share, u.double()
        one = self.first.times(sde, (u / share).clamp(max=1 - 2**-53), low, high)
        two = self.second.times(sde, ((u - share) / (1 - share)).clamp(min=0), low, high)
        return torch.where(u < share, one, two)

    def density(self, sde: LinearSDE, t: Tensor, low: float, high: float) -> Tensor:
        one, two = (part.density(sde, t, low, high) for part in (self.first, self.second))
        return self.share * one + (1 - self.share) * two


SPREADS: Mapping[str, type[TimeDistribution]] = {
    "t": Uniform, "lam": UniformLam, "log_normal": LogNormalSigma, "logit_normal": LogitNormal, "mode": Mode,
    "shifted": Shifted, "mixture": Mixture,
}  # fmt: skip


def time_distribution(given: str | TimeDistribution) -> TimeDistribution:
    """The distribution of that name with its defaults; objects pass through."""
    if isinstance(given, TimeDistribution):
        return given
    if not isinstance(given, str):
        raise InputTypeError(f"spread={shown(given)}: write one of {', '.join(SPREADS)}, or give a TimeDistribution")
    if given not in SPREADS:
        raise InputError(nearest(given, SPREADS, "spread of training times"))
    return SPREADS[given]()


def training_times(
    sde: LinearSDE,
    u: Tensor,
    spread: str | TimeDistribution = "t",
    last: float | None = None,
    lowest: float | None = None,
) -> Tensor:
    """Training times from uniform numbers u (B,) in [0, 1), by a distribution or its name, by default evenly in t.

    They reach from `lowest`, by default t_min, to `last`, by default t_max. On a table they are its training
    timesteps, whole numbers.
    """
    distribution = time_distribution(spread)
    last = sde.t_max if last is None else last
    if hasattr(sde, "n"):
        return distribution.timesteps(sde, u, last)
    return distribution.times(sde, u, sde.t_min if lowest is None else lowest, last)


def lam_weight(sde: LinearSDE, low: float, high: float) -> float:
    """Z = 2 (lam(low) - lam(high)), the integral of g^2/sigma^2: what uniform lam leaves of the likelihood weight.

    (1/2) int g^2 E|s + eps/sigma|^2 dt = (Z/2) E|eps - eps_hat|^2 over times uniform in lam, in nats a sample.
    """
    first, last = sde.lam([low, high]).detach().tolist()
    return 2 * (first - last)
