"""Noise injection: a deterministic solver's step, with noise added before or after it.

All of them add noise by the forward process, so that x/alpha at sigma/alpha = kappa stays on its marginals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sdediff._utils.tensors import product, weighted_sum
from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import linear
from sdediff.solvers.base import Solver, SolverError, finite, members, set_coefficients
from sdediff.solvers.exponential import ancestral, spread
from sdediff.solvers.kernel import NO_NOISE, StepKernel
from sdediff.solvers.wrappers import Wrapper


def renoised(x: Tensor, t: Level, up: Level, z: Tensor, s_noise: float) -> Tensor:
    """x at the noisier level `up` from x at t: (alpha_up/alpha_t) x + s_noise std z, by the forward process."""
    return weighted_sum(x, up.alpha / t.alpha, (s_noise * math.sqrt(max(0.0, spread(up, t))),), ((1.0, z),))


@dataclass(frozen=True)
class NoiseInjection(Wrapper):
    """A solver around a deterministic one, abstract; what is not stated otherwise is the inner solver's."""

    strong_order = None
    needs_alpha = True

    def __post_init__(self) -> None:
        if self.solver.corrector or self.solver.stochastic:
            raise SolverError(f"{self!r} adds the noise itself: give a deterministic solver that is no corrector")

    @property
    def order(self) -> int | None:
        return None if self.stochastic else self.solver.order

    def lowered(self, order: int) -> Solver:
        return replace(self, solver=self.solver.lowered(order))

    def _separately(
        self, model: BoundModel, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None
    ) -> list[Solver]:
        """The inner solver of each step, its coefficients set for this step alone."""
        solver, orders = self.solver.step_orders(len(steps), orders)
        solvers = members(solver, len(steps), orders)
        for one, step in zip(solvers, steps, strict=True):
            set_coefficients(one, model, step)
        return solvers


def single_step(solver: Solver, model: Model, x: Tensor, t: Level, s: Level, noise: Noise) -> Tensor:
    """A step without history: noise between the steps would make a history untrue."""
    x, history = solver.step(model, x, t, s, None, noise)
    if history is not None:
        raise SolverError(f"{solver!r} keeps a history, which the noise would make untrue: give a single step")
    return x


@dataclass
class Endpoint:
    """Where a step ends below the process's least noise: numbers alone, no place for a network evaluation."""

    alpha: float
    sigma: float
    lam: float
    index: int
    inner: tuple[Level, ...] = ()
    coefficients: Any = None

    @property
    def kappa(self) -> float:
        """sigma / alpha."""
        return self.sigma / self.alpha


@dataclass(frozen=True)
class AncestralStep(NoiseInjection):
    """x_s = (alpha_s/alpha_d) x_d + s_noise std(x_s | x_d) z, x_d the solver's step from t to the level d below s.

    (sigma_d/alpha_d)^2 = kappa_s^2 (1 - eta^2 (1 - kappa_s^2/kappa_t^2)), kappa = sigma/alpha: with DDIM's step it
    is DDIM of the same eta, or Euler a. Stochastic, the solver's calls. k-diffusion's ancestral samplers. Where the
    process ends above d, a solver that evaluates the network at its end stops at the process's end.
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

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        for t, _ in steps:
            finite(t, t.lam, "lam")
        lams = [s.lam + ancestral(t, s, self.eta) for t, s in steps]
        downs: list[Any] = list(evaluation.at_lam(lams))
        for i, ((_, s), lam) in enumerate(zip(steps, lams, strict=True)):
            downs[i].index = s.index
            if lam - downs[i].lam > 1e-6 and self.solver.needs_alpha and not self.solver.calls_at_end:
                downs[i] = Endpoint(s.alpha, s.alpha * math.exp(-lam), lam, s.index)
        self.solver.visit(evaluation, [(t, down) for (t, _), down in zip(steps, downs, strict=True)], orders)
        for (_, s), down in zip(steps, downs, strict=True):
            s.inner = (down,)

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[Solver]:
        return self._separately(model, [(t, s.inner[0]) for t, s in itertools.pairwise(levels)], orders)

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        down = s.inner[0]
        x = single_step(s.coefficients, model, x, t, down, NO_NOISE)
        if not self.eta:
            return StepKernel(x, 0.0)
        return StepKernel(product(x, s.alpha / down.alpha), self.s_noise * math.sqrt(max(0.0, spread(s, down))))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        kernel = self.kernel(model, x, t, s, state)
        return (kernel.draw(noise(t, s, x)) if self.eta else kernel.mean), None


@dataclass(frozen=True)
class Churn(NoiseInjection):
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
    no_kernel = "its noise comes before the evaluation of the network: take euler_ancestral or dpm2_ancestral"

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

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        gamma = min(self.s_churn / (len(steps) + 1), math.sqrt(2) - 1)
        sde = linear(evaluation.sde)
        highest = steps[0][0].lam
        churned = [t for t, _ in steps if gamma and t.alpha and self.s_tmin <= t.kappa <= self.s_tmax]
        lams = [t.lam - math.log1p(gamma) for t in churned]
        if any(lam < highest for lam in lams):  # nothing is visited beyond T
            most = sde.lam(sde.t_max).item()
            lams = [max(lam, most) for lam in lams]
        up = dict(zip(map(id, churned), evaluation.at_lam(lams), strict=True))
        starts = []
        for t, s in steps:
            start, end = up.get(id(t), t), s.copy()
            if not self.at_zero_alpha:
                finite(t, t.lam, "lam")
            if start is not t:
                start.index = t.index
            starts.append((start if start.time > t.time else t, end))
            s.inner = starts[-1]
        self.solver.visit(evaluation, starts, orders)

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[Solver]:
        return self._separately(model, [(s.inner[0], s.inner[1]) for s in levels[1:]], orders)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        start, end = s.inner
        if start is not t:
            x = renoised(x, t, start, noise(t, s, x), self.s_noise)
        return single_step(s.coefficients, model, x, start, end, noise), None
