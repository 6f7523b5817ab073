"""DDRM: the predicted data put back to noise, direction by direction of the operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.inverse.operators import Problem
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError


@dataclass(frozen=True, eq=False)
class DDRM(Solver):
    """A step of its own in the singular directions of A, over x/alpha with kappa = sigma/alpha; q = noise/s.

    unseen: D + kappa_s (sqrt(1 - eta^2) eps + eta z); seen, kappa_s < q: D + kappa_s (sqrt(1 - eta^2) (ybar - D)/q +
    eta z); seen, kappa_s >= q: (1 - eta_b) D + eta_b ybar + sqrt(kappa_s^2 - eta_b^2 q^2) z, with ybar = U^T y/s.
    Stochastic, 1 call a step, no derivative. Kawar et al. 2022, eqs. 7 and 8.
    """

    problem: Problem
    eta: float = 0.85
    eta_b: float = 1.0

    calls_at_end = False
    tried = 0
    reference = "Kawar et al. 2022, eqs. 7 and 8"

    def __post_init__(self) -> None:
        self.problem.linear("ddrm")
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise SolverError(f"eta={self.eta}, eta_b={self.eta_b}: both lie in [0, 1]")

    @property
    def stochastic(self) -> bool:
        return True

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        operator = self.problem.linear("ddrm")
        prediction, z = model(x, t), noise(t, s, x)
        x0, kappa, kept = prediction.x0, s.sigma / s.alpha, math.sqrt(1 - self.eta**2)
        new = torch.add(torch.add(x0, prediction.eps, alpha=kappa * kept), z, alpha=kappa * self.eta)
        self.problem.residual(x0)  # refuses a measurement of another shape
        wanted = self.problem.target(operator, x)
        q = (self.problem.noise / operator.singular).to(x)
        seen, fresh = operator.seen(x0), operator.seen(z)
        hidden = seen + kappa * (kept * (wanted - seen) / q.clamp(min=1e-30) + self.eta * fresh)
        spread = (kappa**2 - (self.eta_b * q).square()).clamp(min=0).sqrt()
        clear = (1 - self.eta_b) * seen + self.eta_b * wanted + spread * fresh
        new = new + operator.states(torch.where(kappa < q, hidden, clear) - operator.seen(new))
        return new * s.alpha, None
