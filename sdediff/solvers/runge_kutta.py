"""Explicit Runge-Kutta methods on the probability flow, over the SDE's own time or the noise level of x/alpha."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import product
from sdediff.grids.levels import AtLam, Level
from sdediff.integrate.tableaus import TABLEAUS
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import Solver, SolverError


class Variable(NamedTuple):
    """What a method integrates: y = x/width over `place`, dy/dplace a sum of a prediction's properties.

    kappa: sigma/alpha from a place, where it is not the process's own time.
    """

    place: Callable[[Level], float]
    width: Callable[[Level], float]
    slope: dict[str, float]
    kappa: Callable[[float], float] = float


VARIABLES = {
    "t": Variable(lambda v: v.time, lambda v: 1.0, {"velocity": 1.0}),
    "sigma": Variable(lambda v: v.kappa, lambda v: v.alpha, {"eps": 1.0}),
    "flow": Variable(
        lambda v: v.sigma / (v.alpha + v.sigma), lambda v: v.alpha + v.sigma, {"eps": 1.0, "x0": -1.0},
        lambda u: u / (1 - u),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class RungeKutta(Solver):
    """x_s = x + (s - t) sum_i b_i velocity(x + (s - t) sum_j a_ij k_j, t + c_i (s - t)).

    method: a name of integrate.TABLEAUS (euler, heun, rk4, dopri5, ...) with its order; one call a stage.
    variable: "t" as above, "sigma": x/alpha over sigma/alpha with the slope eps, EDM's frame on any process, or
    "flow": x/(alpha + sigma) over sigma/(alpha + sigma) with the slope eps - x0, rectified flow's.
    Deterministic; under EDM's process heun is Karras et al. 2022's algorithm 1.
    """

    method: str = "heun"
    variable: str = "t"

    grid = "karras"
    reference = "Karras et al. 2022, algorithm 1"

    def __post_init__(self) -> None:
        if not known(self.method, TABLEAUS):
            raise SolverError(nearest(self.method, TABLEAUS, "Runge-Kutta method"))
        if not known(self.variable, VARIABLES):
            raise SolverError(nearest(self.variable, VARIABLES, "variable"))

    @property
    def order(self) -> int | None:
        return TABLEAUS[self.method].order

    @property
    def calls(self) -> int | None:
        return len(TABLEAUS[self.method].weights)

    @property
    def calls_at_end(self) -> bool:
        return 1 in TABLEAUS[self.method].nodes

    @property
    def needs_alpha(self) -> bool:
        return self.variable != "t"

    @property
    def at_zero_alpha(self) -> bool:
        return self.variable != "sigma"

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        nodes = [c for c in TABLEAUS[self.method].nodes if c < 1]
        variable = VARIABLES[self.variable]
        start, stop = variable.place(t), variable.place(s)
        values = [start + c * (stop - start) for c in nodes]
        return values if self.variable == "t" else [AtLam(-math.log(variable.kappa(v))) for v in values]

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        tableau, variable = TABLEAUS[self.method], VARIABLES[self.variable]
        length = variable.place(s) - variable.place(t)
        if not tableau.rows:
            wide = variable.width(s)
            weights = {name: wide * length * sign for name, sign in variable.slope.items()}
            return model(x, t).mix(wide / variable.width(t), **weights), None
        slopes = [model(x, t).scaled(**variable.slope)]
        inner = iter(s.inner)
        for node, row in zip(tableau.nodes, tableau.rows, strict=True):
            at = next(inner) if node < 1 else s
            slopes.append(model(_stepped(x, t, at, variable, length, row, slopes), at).scaled(**variable.slope))
        return _stepped(x, t, s, variable, length, tableau.weights, slopes), None


def _stepped(
    x: Tensor,
    t: Level,
    s: Level,
    variable: Variable,
    length: float,
    weights: Sequence[float],
    slopes: Sequence[tuple[float, Tensor]],
) -> Tensor:
    """x at s after a step of the given length over weighted slopes, in its own scale."""
    wide = variable.width(s)
    ratio = wide / variable.width(t)
    new = x if ratio == 1.0 else product(x, ratio)
    for weight, (scale, slope) in zip(weights, slopes, strict=True):
        if weight:
            share = wide * length * weight * scale
            new = torch.add(x, slope, alpha=share) if new is x else new.add_(slope, alpha=share)
    return new
