"""Langevin dynamics: correctors, which leave p_t as it is, and annealed Langevin sampling."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import per_sample
from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.solvers.base import Solver, SolverError
from sdediff.solvers.exponential import exact
from sdediff.solvers.gaussian import GaussianStep
from sdediff.solvers.kernel import StepKernel


class Repeated(Solver):
    """A stochastic solver that stays at its level and takes `n` steps there, a call each."""

    n: int

    corrector = True
    at_zero_alpha = True

    @property
    def calls(self) -> int | None:
        return self.n

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def no_kernel(self) -> str:
        return f"{self.n} steps at one level are no Gaussian: write n=1" if self.n > 1 else ""

    @abstractmethod
    def once(self, model: Model, x: Tensor, t: Level, s: Level) -> StepKernel:
        """One of the steps."""

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        return super().kernel(model, x, t, s, state) if self.no_kernel else self.once(model, x, t, s)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        for i in range(self.n):
            x = self.once(model, x, t, s).draw(noise(t, s, x, i))
        return x, None


NORMS = ("level", "sample", "batch")


@dataclass(frozen=True)
class Langevin(Repeated):
    """x <- x + e score + sqrt(2 e) z, e = 2 a (snr r)^2, n times at one level.

    a = (alpha_t/alpha_next)^2 of the grid's step: 1 for VE, 1 - beta_i for VP. norm: r. "level" is sigma_t, what
    |z|/|score| tends to in many dimensions: a step that no state decides leaves p_t invariant in any. "sample" is each
    sample's own |z|/|score|, the paper's, "batch" the ratio of their means over the batch, the released code's, so that
    results depend on the batch; both bend p_t in few dimensions. A corrector: stochastic, n calls. Song et al. 2021,
    algorithms 4 and 5.
    """

    snr: float = 0.16
    n: int = 1
    norm: str = "level"

    alone = False
    reference = "Song et al. 2021, algorithms 4 and 5"

    def __post_init__(self) -> None:
        if not known(self.norm, NORMS):
            raise SolverError(nearest(self.norm, NORMS, "norm"))
        if not (self.snr > 0 and self.n >= 1):
            raise SolverError(f"snr={self.snr}, n={self.n}: snr must be positive and n at least 1")

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[float]:
        """2 a snr^2 at every level, times sigma^2 where the level decides; data follow the last one."""
        after = [*(v.alpha for v in levels[1:]), 1.0]
        scales = [v.sigma**2 if self.norm == "level" else 1.0 for v in levels]
        share = 2 * self.snr**2
        return [share * scale * (t.alpha / alpha) ** 2 for t, alpha, scale in zip(levels, after, scales, strict=True)]

    @property
    def no_kernel(self) -> str:
        return super().no_kernel if self.norm == "level" else "its step size depends on the draw: write norm='level'"

    def once(self, model: Model, x: Tensor, t: Level, s: Level) -> StepKernel:
        return StepKernel(model(x, t).mix(1.0, score=s.coefficients), math.sqrt(2 * s.coefficients))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        if self.norm == "level":
            return super().step(model, x, t, s, state, noise)
        for i in range(self.n):
            score, z = model(x, t).score, noise(t, s, x, i)
            e = per_sample(s.coefficients * self._ratio(z, score) ** 2, x)
            x = x + e * score + torch.sqrt(2 * e) * z
        return x, None

    def _ratio(self, z: Tensor, score: Tensor) -> Tensor:
        """|z| / |score|, (B,); 0 where the score is."""
        norms = [v.reshape(len(z), -1).norm(dim=1) for v in (z, score)]
        if self.norm == "batch":
            norms = [v.mean().expand(len(z)) for v in norms]
        return torch.where(norms[1] > 0, norms[0] / norms[1], 0.0)


@dataclass(frozen=True)
class AnnealedLangevin(Repeated):
    """x <- x + (e_i/2) score + sqrt(e_i) z, e_i = step sigma_i^2, n times at every level.

    step = e/sigma_L^2 in NCSN's words: their e = 2e-5 with sigma_L = 0.01 is 0.2 (epsilon= takes e itself;
    NCSNv2's step is half of e_i). Stochastic, n calls a level. Song and Ermon 2019, algorithm 1.
    """

    n: int = 5
    step_size: float = 0.2
    epsilon: float | None = None

    tried = 40
    reference = "Song and Ermon 2019, algorithm 1"

    def __post_init__(self) -> None:
        if self.n < 1 or not self.step_size > 0 or (self.epsilon is not None and not self.epsilon > 0):
            raise SolverError(f"n={self.n}, step_size={self.step_size}, epsilon={self.epsilon}: all must be positive")

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[float]:
        """e_i at every level."""
        share = self.step_size if self.epsilon is None else self.epsilon / levels[-1].sigma ** 2
        return [share * t.sigma**2 for t in levels]

    def once(self, model: Model, x: Tensor, t: Level, s: Level) -> StepKernel:
        return StepKernel(model(x, t).mix(1.0, score=s.coefficients / 2), math.sqrt(s.coefficients))


@dataclass(frozen=True)
class ConsistentAnnealedLangevin(GaussianStep):
    """x_s = (alpha_s/alpha_t) (1 - eta) x + alpha_s eta D + beta sigma_s z, beta^2 = 1 - ((1 - eta)/gamma)^2.

    gamma = kappa_s/kappa_t, kappa = sigma/alpha. eta: the paper's step over sigma_L^2, the share of the noise
    that a step takes out; (1 - eta) < gamma is needed at every step, so None takes 1 - gamma^2, the ancestral
    step's. Stochastic, 1 call. Jolicoeur-Martineau et al. 2021, algorithm 2.
    """

    eta: float | None = None

    at_zero_alpha = True
    reference = "Jolicoeur-Martineau et al. 2021, algorithm 2"

    def __post_init__(self) -> None:
        if self.eta is not None and not 0 < self.eta < 1:
            raise SolverError(f"eta={self.eta}: needed is 0 < eta < 1")

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        h = s.lam - t.lam
        q = h if self.eta is None else -math.log1p(-self.eta) - h
        if not q > 0:
            raise SolverError(
                f"consistent steps need 1 - eta < gamma, given 1 - {self.eta} and gamma = {math.exp(-h):.4g} from "
                f"t={t.time} to s={s.time}: raise eta or take more steps"
            )
        on_x, on_x0, std = exact(t, s, q)
        return StepKernel(model(x, t).mix(on_x, x0=on_x0), std)
