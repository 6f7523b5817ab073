"""SEEDS: exponential solvers of the reverse-time SDE in the noise prediction, exact in its linear part and noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff._utils.tensors import product
from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import Solver, SolverError, finite
from sdediff.solvers.exponential import places, spread
from sdediff.solvers.kernel import NO_NOISE, StepKernel

# Where the stages of a step lie, as shares of its rise in lam.
NODES = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


@dataclass(frozen=True)
class Seeds(Solver):
    """x_s = (alpha_s/alpha_t) x - 2 sigma_s (e^h - 1) eps + sigma_s sqrt(e^(2h) - 1) z, and with inner stages.

    stages 2 takes eps half way in lam, 3 at thirds with a difference of eps; the noise of every stage is
    part of the same Wiener path. Stochastic, one call a stage; strong order 1 along a path, as all of them
    see the noise by its increments alone. Gonzalez et al. 2023, algorithms 1 to 3 in the noise prediction.
    """

    stages: int = 3

    strong_order = 1.0
    grid = "log_snr"
    reference = "Gonzalez et al. 2023, algorithms 1 to 3"

    def __post_init__(self) -> None:
        if self.stages not in tuple(NODES):
            raise SolverError(f"stages={self.stages}: write 1, 2 or 3")

    @property
    def calls(self) -> int | None:
        return self.stages

    @property
    def stochastic(self) -> bool:
        return True

    def strain(self, t: Level, s: Level) -> float:
        # Of pure noise, eps = x / sigma, a step of one stage makes (2 - e^h) x: it grows where e^h is above 3.
        return (s.lam - t.lam) / math.log(3.0)

    @property
    def no_kernel(self) -> str:
        late = "the network is evaluated after a part of the noise: write solver('seeds', order=1)"
        return late if self.stages > 1 else ""

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        if not NODES[self.stages] or not math.isfinite(t.lam):
            return ()
        return places(t, s, NODES[self.stages])

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        if self.stages > 1:
            return super().kernel(model, x, t, s, state)
        mean, later = self.step(model, x, t, s, state, NO_NOISE)
        return StepKernel(mean, s.alpha / t.alpha * math.sqrt(spread(t, s)), later)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        finite(t, t.lam, "lam")
        row = (t, *s.inner, s)
        parts, draws = increments(row), [noise(t, s, x, i) for i in range(len(row) - 1)]
        unit, eps = model(x, t).factored("eps")
        stage, risen = x, [0.0] * len(draws)
        for i, (before, u) in enumerate(itertools.pairwise(row)):
            h = u.lam - t.lam
            total, share = math.expm1(h), 0.0
            new = product(x, u.alpha / t.alpha)
            if i:
                # Two stages hold the middle's eps over the step, three draw a line through the last stage's.
                share = total if self.stages == 2 else (total - h) / (before.lam - t.lam)
                factor, last = model(stage, before).factored("eps")
                new.add_(last, alpha=-2 * u.sigma * share * factor)
            if share != total:
                new.add_(eps, alpha=-2 * u.sigma * (total - share) * unit)
            rise = math.sqrt(spread(before, u)) / before.alpha
            risen = [a + rise * b for a, b in zip(risen, parts[i], strict=True)]
            stage = stirred(new, draws, u.alpha, risen)
        return stage, None


def increments(row: Sequence[Level]) -> list[list[float]]:
    """Rows of weights that make of independent unit normals those of one path over each interval of `row`.

    The noise is drawn for whole steps only: a reflection turns the first draw into the direction of
    the rise, so a Brownian path stays itself, and the draws of any other noise stay independent.
    """
    span = row[0].time - row[-1].time
    shares = [math.sqrt((a.time - b.time) / span) for a, b in itertools.pairwise(row)]
    if len(shares) == 1:
        return [[1.0]]
    away = [1 - shares[0], *(-a for a in shares[1:])]
    return [[(i == j) - a * b / away[0] for j, b in enumerate(away)] for i, a in enumerate(away)]


def stirred(x: Tensor, draws: Sequence[Tensor], scale: float, weights: Sequence[float]) -> Tensor:
    """x plus a number times the weighted draws, in place."""
    for weight, z in zip(weights, draws, strict=True):
        x.add_(z, alpha=scale * weight)
    return x


def seeds(order: int = 3) -> Seeds:
    """SEEDS-1, 2 or 3; the order is the method's on the noiseless part. Gonzalez et al. 2023."""
    if order not in tuple(NODES):
        raise SolverError(f"order={order}: write 1, 2 or 3")
    return Seeds(order)
