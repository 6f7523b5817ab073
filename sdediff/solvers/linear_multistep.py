"""Linear multistep methods with constant coefficients: DDIM's step under weighted noise predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from sdediff._utils.checks import known, number, whole
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import weighted_sum
from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import Solver, SolverError, finite

# Adams and Bashforth's weights at equal steps, the newest value first: one row a number of values.
ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


class WarmUp(NamedTuple):
    """How many steps a way to begin lasts, and its network calls a step beyond the one that every step makes."""

    steps: int
    extra: int


WARM_UPS = {"lower": WarmUp(0, 0), "improved_euler": WarmUp(1, 1), "runge_kutta": WarmUp(3, 3)}


@dataclass(frozen=True)
class LinearMultistep(Solver):
    """x_s = (alpha_s/alpha_t) x - sigma_s (e^h - 1) sum_j w_j eps_j over the last noise predictions eps_j.

    rows: the weights, newest first, for 1, 2, .. values. warm_up: "lower" takes the shorter rows (iPNDM),
    "improved_euler" (PLMS) and "runge_kutta" (PNDM, three steps, half way in t) call 2 and 4 times a step.
    Order 2 if the weights extrapolate by half a step, else 1; deterministic. Liu et al. 2022, eq. 12.
    """

    rows: tuple[tuple[float, ...], ...] = ADAMS_BASHFORTH
    warm_up: str = "lower"

    reference = "Liu et al. 2022, eq. 12; Zhang and Chen 2023; Permenter and Yuan 2023"
    tried = 4  # DDIM's steps, of an output that is a mean of earlier ones

    def __post_init__(self) -> None:
        if not known(self.warm_up, WARM_UPS):
            raise SolverError(nearest(self.warm_up, WARM_UPS, "warm-up"))
        for i, row in enumerate(self.rows or ((),), 1):
            if len(row) != i or not math.isclose(math.fsum(row), 1.0, abs_tol=1e-9):
                raise SolverError(f"row {i} of the weights is {row}: write {i} numbers that add up to 1")

    @property
    def order(self) -> int | None:
        ahead = -math.fsum(j * w for j, w in enumerate(self.rows[-1]))
        # Constant weights know no grid: on smooth ones the next term is wrong however many values there are.
        return 2 if math.isclose(ahead, 0.5) else 1

    @property
    def calls_at_end(self) -> bool:
        return bool(WARM_UPS[self.warm_up].steps)

    @property
    def calls(self) -> int | None:
        return None if WARM_UPS[self.warm_up].steps else 1

    def spent(self, steps: int) -> int:
        first = WARM_UPS[self.warm_up]
        return steps + first.extra * min(steps, first.steps)

    def strain(self, t: Level, s: Level) -> float:
        # In a warm-up each call multiplies the error of eps in the one before by the rise of alpha: 30 is too much.
        warms_up = t.index < WARM_UPS[self.warm_up].steps and t.alpha > 0
        return math.log(s.alpha / t.alpha) / math.log(30.0) if warms_up else 0.0

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return (
            [(t.time + s.time) / 2] if self.warm_up == "runge_kutta" and t.index < WARM_UPS[self.warm_up].steps else ()
        )

    def lowered(self, order: int) -> LinearMultistep:
        return replace(self, rows=self.rows[:order])

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        finite(t, t.lam, "lam")
        newest = model(x, t).factored("eps")
        past = (newest, *(state or ()))[: len(self.rows)]
        if self.warm_up == "runge_kutta" and s.inner:
            values = [newest]
            for u in (*s.inner, *s.inner, s):
                values.append(model(_stepped(x, t, u, (1.0,), values[-1:]), u).factored("eps"))
            return _stepped(x, t, s, (1 / 6, 1 / 3, 1 / 3, 1 / 6), values), past
        if self.warm_up == "improved_euler" and state is None:
            ahead = model(_stepped(x, t, s, (1.0,), past), s).factored("eps")
            return _stepped(x, t, s, (0.5, 0.5), (newest, ahead)), past
        return _stepped(x, t, s, self.rows[len(past) - 1], past), past


def _stepped(x: Tensor, t: Level, s: Level, weights: Sequence[float], values: Sequence[tuple[float, Tensor]]) -> Tensor:
    """DDIM's step under the weighted noise predictions."""
    unit = -s.sigma * math.expm1(s.lam - t.lam)
    return weighted_sum(x, s.alpha / t.alpha, [unit * weight for weight in weights], values)


def ipndm(points: int = 4) -> LinearMultistep:
    """Zhang and Chen 2023's improved PNDM over the last 1 to 4 noise predictions: orders rise at the start."""
    if whole("points", points) not in range(1, len(ADAMS_BASHFORTH) + 1):
        raise SolverError(f"points={points}: write 1 to {len(ADAMS_BASHFORTH)}")
    return LinearMultistep(ADAMS_BASHFORTH[:points])


def gradient_estimation(gamma: float = 2.0) -> LinearMultistep:
    """DDIM's step under gamma eps + (1 - gamma) eps_last. Permenter and Yuan 2023, algorithm 2."""
    gamma = number("gamma", gamma)
    return LinearMultistep(((1.0,), (gamma, 1 - gamma)))
