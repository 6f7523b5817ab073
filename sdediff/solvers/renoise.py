"""The predicted data put back to noise: the step that DDIM, DiffPIR and CFG++ share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError


@dataclass(frozen=True)
class Renoise(Solver):
    """x_s = alpha_s x0 + sigma_s (sqrt(1 - zeta) eps + sqrt(zeta) z), of a predicted x0 and a predicted eps.

    zeta = 0 is DDIM, of order 1; zeta = 1 draws all noise anew. It alone serves predictions whose x0 and eps do not
    belong together (CFG++). 1 call a step, stochastic with zeta > 0. Zhu et al. 2023, algorithm 1.
    """

    zeta: float = 0.0

    calls_at_end = False
    two_predictions = True
    reference = "Zhu et al. 2023, algorithm 1"

    def __post_init__(self) -> None:
        if not 0 <= self.zeta <= 1:
            raise SolverError(f"zeta={self.zeta}: the share of new noise lies in [0, 1]")

    @property
    def order(self) -> int | None:
        return None if self.zeta else 1

    @property
    def stochastic(self) -> bool:
        return self.zeta > 0

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        x = model(x, t).mix(0.0, x0=s.alpha, eps=s.sigma * math.sqrt(1 - self.zeta))
        if self.zeta:
            x = torch.add(x, noise(t, s, x), alpha=s.sigma * math.sqrt(self.zeta))
        return x, None
