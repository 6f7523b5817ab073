"""Functions from solver to solver: how a deterministic solver moves, with noise added and taken out again.

All of them add noise by the forward process, so that x/alpha at sigma/alpha = kappa stays on its marginals.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sdediff._utils.tensors import product
from sdediff.grids.levels import AtLam, Level
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE, linear
from sdediff.solvers.base import Solver, SolverError, finite
from sdediff.solvers.exponential import ancestral, spread
from sdediff.solvers.wrappers import Around


def renoised(x: Tensor, t: Level, up: Level, z: Tensor, s_noise: float) -> Tensor:
    """x at the noisier level `up` from x at t: (alpha_up/alpha_t) x + s_noise std z, by the forward process."""
    return product(x, up.alpha / t.alpha).add_(z, alpha=s_noise * math.sqrt(max(0.0, spread(up, t))))


def at_lam(sde: SDE, lam: float, solver: Solver, like: Level) -> Level:
    """A level that only the placing of a solver's inner nodes looks at, in the place of `like`, without slopes.

    Of a solver that needs alpha the nodes depend on lam alone; for any other the time is found.
    """
    time = math.nan if solver.needs_alpha else linear(sde).t_of_lam(lam).item()
    found = Level(time, alpha=1.0, sigma=math.exp(-lam), lam=lam)
    found.index, found.grid = like.index, like.grid
    return found


@functools.lru_cache(maxsize=1 << 11)
def ending(s: Level, nodes: tuple[Level, ...], lam: float | None = None) -> Level:
    """The level s as the end of a step through `nodes`, moved on to `lam` where it is given; kept."""
    end = s.within(nodes)
    if lam is not None:
        end.sigma, end.lam = s.alpha * math.exp(-lam), lam
    return end


@dataclass(frozen=True)
class Lift(Around):
    """A solver around a deterministic one; what is not said otherwise is the inner solver's."""

    strong_order = None
    needs_alpha = True

    def __post_init__(self) -> None:
        if not self.solver.moves or self.solver.stochastic:
            raise SolverError(f"{self!r} adds the noise itself: give a deterministic solver that moves")

    @property
    def order(self) -> int | None:
        return None if self.stochastic else self.solver.order

    def lowered(self, order: int) -> Solver:
        return replace(self, solver=self.solver.lowered(order))

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        if not self.at_zero_alpha:
            finite(t, t.lam, "lam")
        return super().inner(sde, t, s)

    def alone(self, model: ScoreModel, x: Tensor, t: Level, s: Level, noise: Noise) -> Tensor:
        """A step of the inner solver that knows no other: noise between its steps would make a history untrue."""
        x, history = self.solver.step(model, x, t, s, None, noise)
        if history is not None:
            raise SolverError(f"{self.solver!r} keeps a history, which the noise would make untrue: give a single step")
        return x


@dataclass(frozen=True)
class AncestralStep(Lift):
    """x_s = (alpha_s/alpha_d) x_d + s_noise std(x_s | x_d) z, x_d the solver's step from t to the level d below s.

    (sigma_d/alpha_d)^2 = kappa_s^2 (1 - eta^2 (1 - kappa_s^2/kappa_t^2)), kappa = sigma/alpha: with DDIM's step it
    is DDIM of the same eta, or Euler a. Stochastic, the solver's calls. k-diffusion's ancestral samplers.
    """

    eta: float = 1.0
    s_noise: float = 1.0

    at_zero_alpha = False
    reference = "Song et al. 2020, eq. 16; k-diffusion's ancestral step"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.eta <= 1 and self.s_noise >= 0):
            raise SolverError(f"eta={self.eta}, s_noise={self.s_noise}: eta lies in [0, 1], s_noise is not negative")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def _lam(self, t: Level, s: Level) -> float:
        return float(s.lam + ancestral(t, s, self.eta))

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        finite(t, t.lam, "lam")
        lam = self._lam(t, s)
        return [*super().inner(sde, t, at_lam(sde, lam, self.solver, s)), AtLam(lam)]

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        *nodes, last = s.inner
        # Where the process ends above the step's own level below s, a solver over lam goes on beneath.
        lam = self._lam(t, s)
        beneath = self.solver.needs_alpha and lam - last.lam > 1e-6
        down = ending(last, tuple(nodes), lam if beneath else None)
        x = self.alone(model, x, t, down, noise)
        return (renoised(x, down, s, noise(t, s, x), self.s_noise) if self.eta else x), None


@dataclass(frozen=True)
class Churn(Lift):
    """x_s = the solver's step from t_hat, x_hat = (alpha_hat/alpha_t) x + s_noise std(x_hat | x) z.

    sigma/alpha at t_hat is 1 + gamma times that at t, gamma = min(s_churn/N, sqrt(2) - 1) where sigma/alpha lies
    in [s_tmin, s_tmax], else 0; N counts the grid's levels, so the last jump to data too, which does not churn.
    No level beyond T is visited. Stochastic unless s_churn is 0. Karras et al. 2022, algorithm 2.
    """

    s_churn: float = 40.0
    s_tmin: float = 0.05
    s_tmax: float = 50.0
    s_noise: float = 1.003

    reference = "Karras et al. 2022, algorithm 2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.s_churn >= 0 and 0 <= self.s_tmin <= self.s_tmax and self.s_noise >= 0):
            raise SolverError(
                f"s_churn={self.s_churn}, s_tmin={self.s_tmin}, s_tmax={self.s_tmax}, s_noise={self.s_noise}: "
                "none may be negative, nor s_tmin above s_tmax"
            )

    @property
    def stochastic(self) -> bool:
        return self.s_churn > 0

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        gamma = min(self.s_churn / len(t.grid), math.sqrt(2) - 1)
        if not (gamma and t.alpha and self.s_tmin <= t.kappa <= self.s_tmax):
            return [*super().inner(sde, t, s), t.time]
        lam = t.lam - math.log1p(gamma)
        if lam < t.grid[0].lam:  # nothing is visited beyond T
            lam = max(lam, linear(sde).lam(sde.t_max).item())
        return [*super().inner(sde, at_lam(sde, lam, self.solver, t), s), AtLam(lam)]

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        *nodes, up = s.inner
        if up.time > t.time:
            x = renoised(x, t, up, noise(t, s, x), self.s_noise)
        return self.alone(model, x, up if up.time > t.time else t, ending(s, tuple(nodes)), noise), None
