"""Explicit Runge-Kutta methods on the probability flow, over the SDE's own time or the noise level of x/alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff.integrate.tableaus import TABLEAUS
from sdediff.levels import Level
from sdediff.model import ScoreModel
from sdediff.names import nearest
from sdediff.noise import Noise
from sdediff.sde import SDE
from sdediff.solvers.base import Solver, SolverError


@dataclass(frozen=True)
class RungeKutta(Solver):
    """x_s = x + (s - t) sum_i b_i velocity(x + (s - t) sum_j a_ij k_j, t + c_i (s - t)).

    method: a name of integrate.TABLEAUS (euler, heun, rk4, dopri5, ...) with its order; one call a stage.
    variable: "t" as above, or "sigma": x/alpha over sigma/alpha with the slope eps, EDM's frame on any process.
    Deterministic; under EDM's process heun is Karras et al. 2022's algorithm 1.
    """

    method: str = "heun"
    variable: str = "t"

    grid = "karras"
    reference = "Karras et al. 2022, algorithm 1"

    def __post_init__(self) -> None:
        if self.method not in TABLEAUS:
            raise SolverError(nearest(self.method, TABLEAUS, "Runge-Kutta method"))
        if self.variable not in ("t", "sigma"):
            raise SolverError(nearest(self.variable, ("t", "sigma"), "variable"))

    @property
    def order(self) -> int | None:  # type: ignore[override]
        return TABLEAUS[self.method].order

    @property
    def calls(self) -> int | None:  # type: ignore[override]
        return len(TABLEAUS[self.method].weights)

    @property
    def needs_alpha(self) -> bool:  # type: ignore[override]
        return self.variable == "sigma"

    @property
    def at_zero_alpha(self) -> bool:  # type: ignore[override]
        return self.variable == "t"

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        nodes = [c for c in TABLEAUS[self.method].nodes if c < 1]
        if self.variable == "t" or not nodes:
            return [t.t + c * (s.t - t.t) for c in nodes]
        kappa = torch.tensor([t.kappa + c * (s.kappa - t.kappa) for c in nodes], dtype=torch.float64)
        found: list[float] = sde.t_of_lam(-torch.log(kappa)).tolist()  # type: ignore[attr-defined]
        return found

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        tableau, plain = TABLEAUS[self.method], self.variable == "t"
        length = s.t - t.t if plain else s.kappa - t.kappa
        name = "velocity" if plain else "eps"
        if not tableau.rows:
            ratio, unit = (1.0, 1.0) if plain else (s.alpha / t.alpha, s.alpha)
            return model(x, t).mix(ratio, **{name: unit * length}), None
        slopes = [model(x, t).scaled(**{name: 1.0})]
        inner = iter(s.inner)
        for node, row in zip(tableau.nodes, tableau.rows, strict=True):
            here = next(inner) if node < 1 else s
            slopes.append(model(_moved(x, t, here, plain, length, row, slopes), here).scaled(**{name: 1.0}))
        return _moved(x, t, s, plain, length, tableau.weights, slopes), None


def _moved(
    x: Tensor,
    t: Level,
    s: Level,
    plain: bool,
    length: float,
    weights: Sequence[float],
    slopes: Sequence[tuple[float, Tensor]],
) -> Tensor:
    """x at s after a step of the given length over weighted slopes, in its own scale."""
    if not plain:
        x, length = x * (s.alpha / t.alpha), s.alpha * length
    for weight, (scale, slope) in zip(weights, slopes, strict=True):
        if weight:
            x = torch.add(x, slope, alpha=length * weight * scale)
    return x
