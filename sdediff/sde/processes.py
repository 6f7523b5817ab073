"""The continuous processes of the field, each one class with two one-line methods."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import flag, number
from sdediff._utils.tensors import times64
from sdediff.sde.base import ClassDefault, LinearSDE, SDEError


def _require(true: bool, message: str) -> None:
    if not true:
        raise SDEError(message)


def _check_numbers(sde: Any) -> None:
    """Refuse fields that are no finite numbers, and ends of time in the wrong order."""
    for entry in fields(sde):
        check = flag if entry.type == "bool" else number
        check(entry.name, getattr(sde, entry.name))
    _require(sde.T > sde.t_min > 0, f"T={sde.T}, t_min={sde.t_min}: needed is T > t_min > 0")


@dataclass(frozen=True)
class _Process(LinearSDE):
    """A process that has its class's t_min where none is given: sampling ends there, likelihoods may start nearer.

    A t_min that is given is the end of both, so two processes that differ in this alone are not equal.
    """

    ends_by_default: bool = field(init=False, repr=False, default=True)

    def __post_init__(self) -> None:
        if self.t_min is None:
            object.__setattr__(self, "t_min", type(self).t_min)
        object.__setattr__(self, "ends_by_default", isinstance(self.t_min, ClassDefault))
        _check_numbers(self)


@dataclass(frozen=True)
class _LinearBeta(_Process):
    """beta rises linearly from beta_min to beta_max; B, its integral, gives alpha = exp(-B/2)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0
    t_min: float = ClassDefault(1e-3)

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = self.beta_min >= 0 and self.beta_max > 0
        _require(rising, f"beta_min={self.beta_min}, beta_max={self.beta_max}: neither may be negative")

    def integral(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t."""
        return t * (self.beta_min + t * ((self.beta_max - self.beta_min) / (2 * self.T)))

    @abstractmethod
    def integral_of_lam(self, lam: Tensor) -> Tensor:
        """B at half log-SNR lam."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self.integral(t) * -0.5)

    def slopes(self, t: Any) -> tuple[Tensor, Tensor]:
        times = times64(t)
        alpha, half = self.alpha(times), (self.beta_min + times * ((self.beta_max - self.beta_min) / self.T)) / 2
        return -half * alpha, half * self.sigma_by_half_integral(times, alpha)

    @abstractmethod
    def sigma_by_half_integral(self, t: Tensor, alpha: Tensor) -> Tensor:
        """d sigma / d(B/2) at times t, where alpha is given."""

    def last_start(self, lam: float) -> float:
        # By the integral of beta, without a tensor: B(T) = -2 log(alpha(T)).
        return self.T if self.T * (self.beta_min + self.beta_max) <= -4 * lam else super().last_start(lam)

    def t_of_lam(self, lam: Any) -> Tensor:
        # B from lam, then the quadratic in t in its stable form.
        b = self.integral_of_lam(times64(lam)).clamp(max=self.T * (self.beta_min + self.beta_max) / 2)
        slope = (self.beta_max - self.beta_min) / self.T
        return (2 * b / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * b))).clamp(0, self.T)


@dataclass(frozen=True)
class VP(_LinearBeta):
    """Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), B = integral of beta. Song et al. 2021."""

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.integral(t)))

    def values(self, t: Any) -> tuple[Tensor, Tensor, Tensor]:
        b = self.integral(times64(t))
        log_alpha, sigma = b * -0.5, torch.sqrt(-torch.expm1(-b))
        return torch.exp(log_alpha), sigma, log_alpha - torch.log(sigma)

    def integral_of_lam(self, lam: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-2 * lam)

    def sigma_by_half_integral(self, t: Tensor, alpha: Tensor) -> Tensor:
        return alpha**2 / self.sigma(t)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-variance preserving: VP's alpha with sigma = 1 - exp(-B). Song et al. 2021, appendix B."""

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def integral_of_lam(self, lam: Tensor) -> Tensor:
        return 2 * torch.asinh(torch.exp(-lam) / 2)

    def sigma_by_half_integral(self, t: Tensor, alpha: Tensor) -> Tensor:
        return 2 * alpha**2


@dataclass(frozen=True)
class VE(_Process):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max/sigma_min)^(t/T). Song et al. 2021.

    zero_start=True is the variant with sigma(0) = 0, sqrt(sigma^2 - sigma_min^2), of which `exponential` is one.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    zero_start: bool = False
    T: float = 1.0
    t_min: float = ClassDefault(1e-5)

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = self.sigma_max > self.sigma_min > 0
        _require(rising, f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: needed is 0 < sigma_min < sigma_max")

    @staticmethod
    def exponential(base: float = 25.0, T: float = 1.0, t_min: float | None = None) -> VE:
        """dx = base^t dw: alpha = 1, sigma^2 = (base^(2t) - 1)/(2 log base). Song's score-based tutorial, base 25."""
        if number("base", base) <= 1:
            raise SDEError(f"base={base}: needed is base > 1, so that the noise rises")
        start = 1 / math.sqrt(2 * math.log(base))
        return VE(start, start * base**T, True, T, VE.t_min if t_min is None else t_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        rise = t / self.T * math.log(self.sigma_max / self.sigma_min)
        if self.zero_start:
            return self.sigma_min * torch.sqrt(torch.expm1(2 * rise))
        return self.sigma_min * torch.exp(rise)

    def t_of_lam(self, lam: Any) -> Tensor:
        ratio = torch.exp(-times64(lam)) / self.sigma_min
        rise = torch.log1p(ratio**2) / 2 if self.zero_start else torch.log(ratio)
        return (rise * self.T / math.log(self.sigma_max / self.sigma_min)).clamp(0, self.T)


@dataclass(frozen=True)
class EDM(_Process):
    """alpha = 1, sigma = t, from sigma 0.002 to 80. Karras et al. 2022."""

    T: float = 80.0
    t_min: float = ClassDefault(0.002)

    grid = "karras"

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def t_of_lam(self, lam: Any) -> Tensor:
        return torch.exp(-times64(lam)).clamp(0, self.T)

    @property
    def t0(self) -> float:
        return self.t_min


@dataclass(frozen=True)
class Cosine(_Process):
    """alpha = C(t)/C(0), C = cos((t/T + s)/(1 + s) pi/2), sigma^2 = 1 - alpha^2. Nichol and Dhariwal 2021.

    alpha(T) = 0. The table form caps beta at 0.999: `Table.from_betas(Cosine().betas(1000))`.
    """

    s: float = 0.008
    T: float = 1.0
    t_min: float = ClassDefault(1e-3)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.s >= 0, f"s={self.s}: it may not be negative")

    def _from_end(self, t: Tensor) -> Tensor:
        return (1 - t / self.T) / (1 + self.s) * (math.pi / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(self._from_end(t)) / math.cos(self.s / (1 + self.s) * math.pi / 2)

    def sigma(self, t: Tensor) -> Tensor:
        start = 0.5 * math.pi * self.s / (1 + self.s)
        passed = t / self.T / (1 + self.s) * (math.pi / 2)
        return torch.sqrt(torch.sin(passed) * torch.sin(passed + 2 * start)) / math.cos(start)

    def t_of_lam(self, lam: Any) -> Tensor:
        # cos A = alpha cos A_0 for the angle A, which is A_0 at t = 0; its sine keeps A - A_0 exact near data.
        target = times64(lam)
        start = 0.5 * math.pi * self.s / (1 + self.s)
        cos = torch.sqrt(torch.sigmoid(2 * target)) * math.cos(start)
        rise = torch.sigmoid(-2 * target) * math.cos(start) ** 2
        sin = torch.sqrt(math.sin(start) ** 2 + rise)
        near = torch.asin((rise / (sin * math.cos(start) + cos * math.sin(start))).clamp(max=1))
        passed = torch.where(cos < 0.5, 0.5 * math.pi - start - torch.asin(cos), near)
        return (2 * self.T * (1 + self.s) * passed / math.pi).clamp(0, self.T)

    def betas(self, n: int, cap: float = 0.999) -> Tensor:
        """The n betas of the table form, 1 - alpha^2((i + 1)/n)/alpha^2(i/n), at most `cap`."""
        bars = self.alpha(torch.arange(n + 1, dtype=torch.float64) / n * self.T) ** 2
        return (1 - bars[1:] / bars[:-1]).clamp(max=cap)


@dataclass(frozen=True)
class RectifiedFlow(_Process):
    """The linear path alpha = 1 - t, sigma = t. Liu et al. 2022, Lipman et al. 2022. alpha(T) = 0."""

    T: float = 1.0
    t_min: float = ClassDefault(1e-3)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t / self.T

    def sigma(self, t: Tensor) -> Tensor:
        return t / self.T

    def t_of_lam(self, lam: Any) -> Tensor:
        return self.T * torch.sigmoid(-times64(lam))
