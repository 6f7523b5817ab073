"""SEEDS: exponential solvers of the reverse-time SDE in the noise prediction, exact in its linear part and noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.noise import Noise
from sdediff.sde import LinearSDE
from sdediff.solvers.base import Solver, SolverError, finite
from sdediff.solvers.exponential import places, spread

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
        if self.stages not in NODES:
            raise SolverError(f"stages={self.stages}: write 1, 2 or 3")

    @property
    def calls(self) -> int | None:  # type: ignore[override]
        return self.stages

    @property
    def stochastic(self) -> bool:
        return True

    def inner(self, sde: LinearSDE, t: Level, s: Level) -> Sequence[float]:  # type: ignore[override]
        if not NODES[self.stages] or not math.isfinite(t.lam):
            return ()
        return places(t, s, NODES[self.stages])

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        finite(t, t.lam, "lam")
        row = (t, *s.inner, s)
        parts = increments(noise, row, x)
        eps, stage = model(x, t).eps, x
        for i, u in enumerate(row[1:], 1):
            h, here = u.lam - t.lam, row[i - 1]
            new = torch.add(x * (u.alpha / t.alpha), eps, alpha=-2 * u.sigma * math.expm1(h))
            if i > 1:
                # Two stages hold the middle's eps over the step, three draw a line through the last stage's.
                share = math.expm1(h) if self.stages == 2 else (math.expm1(h) - h) / (here.lam - t.lam)
                new = torch.add(new, model(stage, here).eps - eps, alpha=-2 * u.sigma * share)
            for low, high, z in zip(row[1 : i + 1], row[:i], parts, strict=False):
                new = torch.add(new, z, alpha=u.alpha / high.alpha * math.sqrt(spread(high, low)))
            stage = new
        return stage, None


def increments(noise: Noise, row: Sequence[Level], like: Tensor) -> list[Tensor]:
    """Unit normals of one path over the intervals of `row`, independent; together they are its rise over all.

    Only whole steps are asked of the noise, by draws: a reflection turns the first draw into the direction of
    the rise, so a Brownian path stays itself, and the draws of any other noise stay independent.
    """
    draws = [noise(row[0], row[-1], like, i) for i in range(len(row) - 1)]
    span = row[0].t - row[-1].t
    shares = [math.sqrt((a.t - b.t) / span) for a, b in itertools.pairwise(row)]
    if len(draws) == 1:
        return draws
    shared = draws[0]
    for share, z in zip(shares[1:], draws[1:], strict=True):
        shared = torch.add(shared, z, alpha=-share / (1 - shares[0]))
    parts = [torch.add(draws[0], shared, alpha=shares[0] - 1)]
    return parts + [torch.add(z, shared, alpha=a) for a, z in zip(shares[1:], draws[1:], strict=True)]


def seeds(order: int = 3) -> Seeds:
    """SEEDS-1, 2 or 3; the order is the method's on the noiseless part. Gonzalez et al. 2023."""
    if order not in NODES:
        raise SolverError(f"order={order}: write 1, 2 or 3")
    return Seeds(order)
