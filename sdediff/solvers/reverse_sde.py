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
from sdediff.solvers.base import SolverError, finite
from sdediff.solvers.exponential import exact, spread
from sdediff.solvers.gaussian import GaussianStep
from sdediff.solvers.kernel import StepKernel


@dataclass(frozen=True)
class EulerMaruyama(GaussianStep):
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

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        dt = s.time - t.time
        if not self.eta:
            return StepKernel(model(x, t).mix(1.0, velocity=dt), 0.0)
        g2 = self.eta**2 * finite(t, t.g2, "g^2")
        return StepKernel(model(x, t).mix(1.0, velocity=dt, score=-g2 * dt / 2), math.sqrt(g2 * abs(dt)))


@dataclass(frozen=True)
class ReverseDiffusion(GaussianStep):
    """x_s = x - f_i x + G_i^2 score + G_i z, f_i = alpha_t/alpha_s - 1, G_i^2 the variance of x_t given x_s.

    On VP and VE it is Song et al.'s discretisation; theirs of sub-VP is Euler-Maruyama. Stochastic, 1 call.
    """

    reference = "Song et al. 2021, eq. 46"

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        g2 = spread(t, s)
        return StepKernel(model(x, t).mix(2 - t.alpha / s.alpha, score=g2), math.sqrt(g2))


@dataclass(frozen=True)
class Ancestral(GaussianStep):
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

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        on_x, on_x0, small = exact(t, s, s.lam - t.lam)
        prediction = model(x, t)
        mean = prediction.mix(on_x, x0=on_x0)
        if self.variance in ("small", "large"):
            return StepKernel(mean, small if self.variance == "small" else math.sqrt(spread(t, s)))
        log_var = prediction.log_variance(self.variance, small**2, spread(t, s))
        return StepKernel(mean, torch.exp(log_var / 2))
