"""Explicit Runge-Kutta methods on the probability flow, in the SDE's own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.names import nearest
from sdediff.noise import Noise
from sdediff.sde import SDE
from sdediff.solvers.base import Solver, SolverError


class Tableau(NamedTuple):
    """A Butcher tableau: rows of the strictly lower matrix for stages 2.., weights, order."""

    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: int


TABLEAUS = {
    "euler": Tableau((), (1.0,), 1),
    "midpoint": Tableau(((0.5,),), (0.0, 1.0), 2),
    "heun": Tableau(((1.0,),), (0.5, 0.5), 2),
    "rk4": Tableau(((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4),
}


@dataclass(frozen=True)
class RungeKutta(Solver):
    """x_s = x + (s - t) sum_i b_i velocity(x + (s - t) sum_j a_ij k_j, t + c_i (s - t)).

    method: euler, midpoint, heun or rk4 (order 1, 2, 2, 4); one call a stage. Deterministic; under EDM's
    process heun is Karras et al. 2022's algorithm 1.
    """

    method: str = "heun"

    needs_alpha = False
    at_zero_alpha = True
    grid = "karras"
    reference = "Karras et al. 2022, algorithm 1"

    def __post_init__(self) -> None:
        if self.method not in TABLEAUS:
            raise SolverError(nearest(self.method, TABLEAUS, "Runge-Kutta method"))

    @property
    def order(self) -> int | None:  # type: ignore[override]
        return TABLEAUS[self.method].order

    @property
    def calls(self) -> int | None:  # type: ignore[override]
        return len(TABLEAUS[self.method].weights)

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        nodes = [sum(row) for row in TABLEAUS[self.method].rows]
        return [t.t + c * (s.t - t.t) for c in nodes if c < 1]

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        dt = s.t - t.t
        rows, weights, _ = TABLEAUS[self.method]
        if not rows:
            return model(x, t).mix(1.0, velocity=dt), None
        slopes = [model(x, t).scaled("velocity")]
        inner = iter(s.inner)
        for row in rows:
            here = next(inner) if sum(row) < 1 else s
            slopes.append(model(_moved(x, dt, row, slopes), here).scaled("velocity"))
        return _moved(x, dt, weights, slopes), None


def _moved(x: Tensor, dt: float, weights: Sequence[float], slopes: Sequence[tuple[float, Tensor]]) -> Tensor:
    for weight, (scale, slope) in zip(weights, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=dt * weight * scale)
    return x
