"""Exponential integrators: the linear part of the reverse process is solved exactly over a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff.grids.levels import AtLam, Level
from sdediff.model.score_model import Model
from sdediff.solvers.base import SolverError, finite
from sdediff.solvers.gaussian import GaussianStep
from sdediff.solvers.kernel import StepKernel


def exact(t: Level, s: Level, q: float = 0.0) -> tuple[float, float, float]:
    """Coefficients of x_t, x0 and z in the step t -> s that is exact for a constant denoiser.

    q = eta^2 h, h = lam_s - lam_t: (sigma_s/sigma_t) e^-q, alpha_s (1 - e^-(h + q)),
    sigma_s sqrt(1 - e^-2q). Also where alpha is 0 at either end and h is infinite.
    """
    on_x = s.sigma / t.sigma * math.exp(-q)
    on_x0 = -s.alpha * math.expm1(t.lam - s.lam - q) if s.alpha else -on_x * t.alpha
    return on_x, on_x0, s.sigma * math.sqrt(-math.expm1(-2 * q))


def spread(t: Level, s: Level) -> float:
    """Variance of x_t given x_s, sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2, formed without cancellation."""
    return -(t.sigma**2) * math.expm1(2 * (t.lam - s.lam))


def ancestral(t: Level, s: Level, eta: float) -> float:
    """q = log(kappa_s / down), down^2 = kappa_s^2 (1 - eta^2 (1 - kappa_s^2/kappa_t^2)), kappa = sigma/alpha.

    An ancestral step goes down to this level and adds noise up to s; q is DDIM's of the same eta.
    """
    h = s.lam - t.lam
    return h if eta == 1 else -0.5 * math.log1p(eta**2 * math.expm1(-2 * h))


def places(t: Level, s: Level, shares: Sequence[float]) -> list[float]:
    """The places that lie at these shares of the step's rise in lam; refused where lam is infinite."""
    start = finite(t, t.lam, "lam")
    return [AtLam(start + r * (s.lam - start)) for r in shares]


@dataclass(frozen=True)
class DDIM(GaussianStep):
    """x_s = (sigma_s/sigma_t) e^-q x + alpha_s (1 - e^-(h+q)) D + sigma_s sqrt(1 - e^-2q) z.

    2 q = -log(1 - eta^2 (1 - e^-2h)): eta scales the posterior's standard deviation, 0 is deterministic of
    order 1 (= DPM-Solver-1), 1 the ancestral step. 1 call a step. Song et al. 2020, eq. 12.
    """

    eta: float = 0.0

    at_zero_alpha = True
    calls_at_end = False
    reference = "Song et al. 2020, eq. 12"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise SolverError(f"eta={self.eta}: DDIM's eta lies in [0, 1]")

    @property
    def order(self) -> int | None:
        return None if self.eta else 1

    @property
    def tried(self) -> int:
        return 9 if self.stochastic else 4  # the linear part is exact

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        on_x, on_x0, std = exact(t, s, ancestral(t, s, self.eta) if self.eta else 0.0)
        return StepKernel(model(x, t).mix(on_x, x0=on_x0), std)


@dataclass(frozen=True)
class CoefficientsPreserving(GaussianStep):
    """x_s = alpha_s D + sigma_s cos(a pi/2) eps + sigma_s sin(a pi/2) z.

    a in (0, 1] is the share of the noise that every step renews, whatever its length, so that the marginals do not
    converge with more steps. Stochastic, 1 call a step. Wang and Yu 2025, for reinforcement learning on flow models.
    """

    a: float = 0.7

    at_zero_alpha = True
    reference = "Wang and Yu 2025, coefficients-preserving sampling"

    def __post_init__(self) -> None:
        if not 0 < self.a <= 1:
            raise SolverError(f"a={self.a}: the renewed share of the noise lies in (0, 1]")

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        on_x, on_x0, std = exact(t, s, -math.log(math.cos(self.a * math.pi / 2)))
        return StepKernel(model(x, t).mix(on_x, x0=on_x0), std)
