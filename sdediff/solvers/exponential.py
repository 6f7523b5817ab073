"""Exponential integrators: the linear part of the reverse process is solved exactly over a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.noise import Noise
from sdediff.solvers.base import Solver, SolverError


def exact(t: Level, s: Level, q: float = 0.0) -> tuple[float, float, float]:
    """Coefficients of x_t, x0 and z in the step t -> s that is exact for a constant denoiser.

    q = eta^2 h, h = lam_s - lam_t: (sigma_s/sigma_t) e^-q, alpha_s (1 - e^-(h + q)),
    sigma_s sqrt(1 - e^-2q). Also where alpha is 0 at either end and h is infinite.
    """
    on_x = s.sigma / t.sigma * math.exp(-q)
    on_x0 = -s.alpha * math.expm1(t.lam - s.lam - q) if s.alpha else -on_x * t.alpha
    return on_x, on_x0, s.sigma * math.sqrt(-math.expm1(-2 * q))


@dataclass(frozen=True)
class DDIM(Solver):
    """x_s = (sigma_s/sigma_t) e^-q x + alpha_s (1 - e^-(h+q)) D + sigma_s sqrt(1 - e^-2q) z.

    2 q = -log(1 - eta^2 (1 - e^-2h)): eta scales the posterior's standard deviation, 0 is deterministic of
    order 1 (= DPM-Solver-1), 1 the ancestral step. 1 call a step. Song et al. 2020, eq. 12.
    """

    eta: float = 0.0

    at_zero_alpha = True
    reference = "Song et al. 2020, eq. 12"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise SolverError(f"eta={self.eta}: DDIM's eta lies in [0, 1]")

    @property
    def order(self) -> int | None:  # type: ignore[override]
        return None if self.eta else 1

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        q = 0.0
        if self.eta:
            h = s.lam - t.lam
            q = h if self.eta == 1 else -0.5 * math.log1p(self.eta**2 * math.expm1(-2 * h))
        on_x, on_x0, on_z = exact(t, s, q)
        x = model(x, t).mix(on_x, x0=on_x0)
        return (torch.add(x, noise(t, s, x), alpha=on_z) if self.eta else x), None


@dataclass(frozen=True)
class DPMpp2M(Solver):
    """x_s = (sigma_s/sigma_t) x + alpha_s (1 - e^-h) (D + (D - D_last)/(2r)), r = h_last/h.

    Two-step Adams in the data prediction over lam; the first step is DDIM's. Deterministic, order 2, 1 call.
    """

    order = 2
    at_zero_alpha = True
    grid = "log_snr"
    reference = "Lu et al. 2022b, algorithm 2"

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        h = s.lam - t.lam
        on_x, on_x0 = s.sigma / t.sigma, -s.alpha * math.expm1(-h)
        weight, x0 = model(x, t).scaled("x0")
        if state is None:
            return (x * on_x).add_(x0, alpha=on_x0 * weight), (h, weight, x0)
        h_last, weight_last, x0_last = state
        share = on_x0 * h / (2 * h_last)
        x = (x * on_x).add_(x0, alpha=(on_x0 + share) * weight)
        return x.add_(x0_last, alpha=-share * weight_last), (h, weight, x0)
