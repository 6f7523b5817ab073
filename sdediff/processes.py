"""The processes of the field, each one class with two one-line methods, and tables of knots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff.sde import LinearSDE, SDEError, times64


@dataclass(frozen=True)
class VP(LinearSDE):
    """Variance preserving: alpha = exp(-B/2), sigma^2 = 1 - exp(-B), B = integral of beta. Song et al. 2021."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0
    t_min: float = 1e-3

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / (2 * self.T)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._integral(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def t_of_lam(self, lam: Any) -> Tensor:
        # exp(-B) = sigmoid(2 lam), then the quadratic in t in its stable form.
        b = torch.nn.functional.softplus(-2 * times64(lam))
        slope = (self.beta_max - self.beta_min) / self.T
        return (2 * b / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * b))).clamp(0, self.T)


@dataclass(frozen=True)
class SubVP(VP):
    """Sub-variance preserving: VP's alpha with sigma = 1 - exp(-B). Song et al. 2021, appendix B."""

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self._integral(t))

    def t_of_lam(self, lam: Any) -> Tensor:
        return LinearSDE.t_of_lam(self, lam)


@dataclass(frozen=True)
class VE(LinearSDE):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max/sigma_min)^(t/T). Song et al. 2021.

    zero_start=True is the variant with sigma(0) = 0, sqrt(sigma^2 - sigma_min^2).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    zero_start: bool = False
    T: float = 1.0
    t_min: float = 1e-5

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
class EDM(LinearSDE):
    """alpha = 1, sigma = t, from sigma 0.002 to 80. Karras et al. 2022."""

    T: float = 80.0
    t_min: float = 0.002

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
class Cosine(LinearSDE):
    """alpha = C(t)/C(0), C = cos((t/T + s)/(1 + s) pi/2), sigma^2 = 1 - alpha^2. Nichol and Dhariwal 2021.

    alpha(T) = 0. The table form caps beta at 0.999: `Table.from_betas(Cosine().betas(1000))`.
    """

    s: float = 0.008
    T: float = 1.0
    t_min: float = 1e-3

    def _from_end(self, t: Tensor) -> Tensor:
        return (1 - t / self.T) / (1 + self.s) * (math.pi / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(self._from_end(t)) / math.cos(self.s / (1 + self.s) * math.pi / 2)

    def sigma(self, t: Tensor) -> Tensor:
        start = 0.5 * math.pi * self.s / (1 + self.s)
        passed = t / self.T / (1 + self.s) * (math.pi / 2)
        return torch.sqrt(torch.sin(passed) * torch.sin(passed + 2 * start)) / math.cos(start)

    def betas(self, n: int, cap: float = 0.999) -> Tensor:
        """The n betas of the table form, 1 - alpha^2((i + 1)/n)/alpha^2(i/n), at most `cap`."""
        bars = self.alpha(torch.arange(n + 1, dtype=torch.float64) / n * self.T) ** 2
        return (1 - bars[1:] / bars[:-1]).clamp(max=cap)


@dataclass(frozen=True)
class RectifiedFlow(LinearSDE):
    """The linear path alpha = 1 - t, sigma = t. Liu et al. 2022, Lipman et al. 2022. alpha(T) = 0."""

    T: float = 1.0
    t_min: float = 1e-3

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t / self.T

    def sigma(self, t: Tensor) -> Tensor:
        return t / self.T

    def t_of_lam(self, lam: Any) -> Tensor:
        return self.T * torch.sigmoid(-times64(lam))


@dataclass(frozen=True)
class Table(LinearSDE):
    """A discrete chain of N knots t = 1..N; between knots lam is linear in t, beyond the ends it is constant.

    Made by `from_betas`, `from_alpha_bars` (DDPM: alpha^2 + sigma^2 = 1) or `from_sigmas` (NCSN: alpha = 1).
    """

    lams: tuple[float, ...] = field(repr=False)
    preserving: bool = True

    grid = "strided"

    def __post_init__(self) -> None:
        lams = torch.tensor(self.lams, dtype=torch.float64)
        if len(lams) < 2 or bool(torch.isnan(lams).any()) or bool((lams.diff() >= 0).any()):
            raise SDEError("a table needs at least two knots whose noise rises strictly: check their order")
        object.__setattr__(self, "_lams", lams)

    def __repr__(self) -> str:
        kind = "alpha_bars" if self.preserving else "sigmas"
        return f"Table.from_{kind}(<{self.n}>, lam {self.lams[0]:.6g} to {self.lams[-1]:.6g})"

    @staticmethod
    def from_betas(betas: Sequence[float] | Tensor) -> Table:
        """DDPM's table: alpha_bar_i = prod (1 - beta_i), alpha(t_i) = sqrt(alpha_bar_i). Ho et al. 2020."""
        beta = times64(betas)
        if bool(((beta <= 0) | (beta > 1)).any()):
            raise SDEError("betas must lie in (0, 1]")
        log_bar = torch.log1p(-beta).cumsum(0)
        return Table(tuple((0.5 * (log_bar - torch.log(-torch.expm1(log_bar)))).tolist()))

    @staticmethod
    def from_alpha_bars(alpha_bars: Sequence[float] | Tensor) -> Table:
        """A variance-preserving table from its cumulative products, in (0, 1) and falling."""
        bars = times64(alpha_bars)
        if bool(((bars < 0) | (bars >= 1)).any()):
            raise SDEError("alpha_bars must lie in [0, 1) and fall")
        return Table(tuple((0.5 * (torch.log(bars) - torch.log1p(-bars))).tolist()))

    @staticmethod
    def from_sigmas(sigmas: Sequence[float] | Tensor) -> Table:
        """NCSN's table, alpha = 1: positive sigmas in ascending order. Song and Ermon 2019."""
        sigma = times64(sigmas)
        if bool((sigma <= 0).any()):
            raise SDEError("sigmas must be positive")
        if bool((sigma.diff() <= 0).any()):
            raise SDEError("from_sigmas takes ascending sigmas: flip the list")
        return Table(tuple((-torch.log(sigma)).tolist()), preserving=False)

    @property
    def n(self) -> int:
        """The number of knots."""
        return len(self.lams)

    @property
    def T(self) -> float:  # type: ignore[override]
        return float(self.n)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 1.0

    @property
    def t0(self) -> float:
        return self.t_min

    @property
    def t_max(self) -> float:
        return self.T if math.isfinite(self.lams[-1]) else self.T - 1

    def lam(self, t: Any) -> Tensor:
        time = times64(t).clamp(1, self.n)
        knots: Tensor = self._lams.to(time.device)  # type: ignore[attr-defined]
        low = (time.detach().floor().long() - 1).clamp(max=self.n - 2)
        weight = time - (low + 1)
        below, above = knots[low], knots[low + 1]
        drop = above - below
        drop = torch.where(torch.isinf(drop) & (weight == 0), torch.zeros_like(drop), drop)
        return below + drop * weight

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sqrt(torch.sigmoid(2 * self.lam(t))) if self.preserving else torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        lam = self.lam(t)
        return torch.sqrt(torch.sigmoid(-2 * lam)) if self.preserving else torch.exp(-lam)

    def t_of_lam(self, lam: Any) -> Tensor:
        target = times64(lam)
        knots: Tensor = self._lams.to(target.device)  # type: ignore[attr-defined]
        target = target.clamp(knots[-1], knots[0])
        above = torch.searchsorted(-knots, -target).clamp(1, self.n - 1)
        first, last = knots[above - 1], knots[above]
        return above + ((target - first) / (last - first)).nan_to_num(0.0)
