"""Discretisations of the reverse-time SDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff.grids.levels import Level
from sdediff.model.prediction import VARIANCES
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError, finite
from sdediff.solvers.exponential import exact, spread


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """x_s = x + [f x - (1 + eta^2)/2 g^2 score] (s - t) + eta g sqrt(t - s) z, in the SDE's own time.

    eta = 1 is the reverse-time SDE (Song et al. 2021, eq. 6), eta = 0 Euler's method on the flow.
    Strong order 1 (the noise is additive), 1 call a step; serves any process with drift and diffusion.
    """

    eta: float = 1.0

    strong_order = 1.0
    needs_alpha = False
    reference = "Song et al. 2021, appendix D"

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        dt = s.time - t.time
        if not self.eta:
            return model(x, t).mix(1.0, velocity=dt), None
        g2 = self.eta**2 * finite(t, t.g2, "g^2")
        x = model(x, t).mix(1.0, velocity=dt, score=-g2 * dt / 2)
        return torch.add(x, noise(t, s, x), alpha=math.sqrt(g2 * abs(dt))), None


@dataclass(frozen=True)
class ReverseDiffusion(Solver):
    """x_s = x - f_i x + G_i^2 score + G_i z, f_i = alpha_t/alpha_s - 1, G_i^2 the variance of x_t given x_s.

    On VP and VE it is Song et al.'s discretisation; theirs of sub-VP is Euler-Maruyama. Stochastic, 1 call.
    """

    reference = "Song et al. 2021, eq. 46"

    @property
    def stochastic(self) -> bool:
        return True

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        g2 = spread(t, s)
        x = model(x, t).mix(2 - t.alpha / s.alpha, score=g2)
        return torch.add(x, noise(t, s, x), alpha=math.sqrt(g2)), None


@dataclass(frozen=True)
class Ancestral(Solver):
    """x_s drawn from q(x_s | x_t, x0 = D(x_t)): DDPM's and NCSN's ancestral step on any linear path.

    variance: "small" is the posterior's, sigma_s^2/sigma_t^2 G^2 (DDPM's btilde, NCSN's), "large" is G^2
    (DDPM's beta, score_sde's VP), G^2 the variance of x_t given x_s. What a network returns beside F makes
    "learned_range", exp(v log beta + (1 - v) log btilde) with v = (output + 1)/2 per element on any chain,
    or "learned", the log variance itself (Nichol and Dhariwal 2021, eq. 15). Stochastic, 1 call a step.
    """

    variance: str = "small"

    at_zero_alpha = True
    reference = "Ho et al. 2020, eq. 7; Song et al. 2021, appendix F; Nichol and Dhariwal 2021, eq. 15"

    def __post_init__(self) -> None:
        if not known(self.variance, VARIANCES):
            raise SolverError(
                f"variance={self.variance!r}: write 'small' (btilde), 'large' (beta), 'learned_range' or 'learned'"
            )

    @property
    def stochastic(self) -> bool:
        return True

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        on_x, on_x0, on_z = exact(t, s, s.lam - t.lam)
        prediction = model(x, t)
        x = prediction.mix(on_x, x0=on_x0)
        z = noise(t, s, x)
        if self.variance in ("small", "large"):
            return torch.add(x, z, alpha=on_z if self.variance == "small" else math.sqrt(spread(t, s))), None
        log_var = prediction.log_variance(self.variance, on_z**2, spread(t, s))
        return torch.addcmul(x, z, torch.exp(log_var / 2)), None
