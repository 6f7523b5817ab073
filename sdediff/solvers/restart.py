"""Restart: noise added once the solver has come far, and taken out again, several times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from sdediff.grids.grids import karras
from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import linear
from sdediff.solvers.base import Solver, SolverError, finite, members, set_coefficients
from sdediff.solvers.churn import NoiseInjection, renoised


class Interval(NamedTuple):
    """Where and how often to restart: between sigma/alpha = low and high, `times` times, in `steps` steps each.

    steps below 1 is a share of the run's own steps, so that a finer run has finer restarts.
    """

    low: float
    high: float
    steps: float
    times: int

    def count(self, run: int) -> int:
        """The steps of one restart in a run of so many steps, at least one."""
        return max(1, round(self.steps * run)) if self.steps < 1 else int(self.steps)


class WayDown(NamedTuple):
    """A restart at one level: how many times, the levels from its upper end down, and the solver of each step."""

    times: int
    levels: Sequence[Level]
    solvers: Sequence[Solver]


def _all_of(order: int | None, steps: int) -> list[int] | None:
    return None if order is None else [order] * steps


@dataclass(frozen=True)
class Restart(NoiseInjection):
    """At the level nearest to low, `times` times: x <- (alpha_up/alpha_s) x + s_noise std(x_up | x) z, then down again.

    intervals: (low, high, steps, times) each, low and high in sigma/alpha; `up` is the level of high, and the
    way down is `steps` steps of the solver on Karras's grid, or that share of the run's (1/9 is the paper's
    2 of 18). Stochastic; the restarts' calls come on top, once a run. Xu et al. 2023, algorithm 1.
    """

    intervals: tuple[Interval, ...] = (Interval(0.06, 0.3, 1 / 9, 2),)
    s_noise: float = 1.0

    calls = None
    reference = "Xu et al. 2023, algorithm 1"
    no_kernel = "its noise comes before evaluations of the network: take euler_ancestral"

    @property
    def stochastic(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "intervals", tuple(map(Interval._make, self.intervals)))
        for low, high, steps, times in self.intervals:
            if not (0 < low < high and steps > 0 and (steps < 1 or steps == int(steps)) and times >= 1):
                raise SolverError(
                    f"the interval {(low, high, steps, times)}: write (low, high, steps, times), 0 < low < high "
                    "in sigma/alpha, steps a count or a share below 1, times at least 1"
                )

    def spent(self, steps: int) -> int | None:
        more = sum(one.count(steps) * one.times for one in self.intervals)
        return None if self.solver.calls is None else self.solver.calls * (steps + more)

    def _due(self, t: Level, s: Level, after: Level | None) -> list[Interval]:
        """The intervals whose lower end lies nearest to s, of all levels that a step reaches."""
        due = []
        for one in self.intervals:
            gap = abs(s.kappa - one.low)
            sooner = s.index > 1 and abs(t.kappa - one.low) <= gap
            if not sooner and (after is None or abs(after.kappa - one.low) >= gap):
                if s.kappa >= one.high:
                    raise SolverError(f"sigma/alpha is {s.kappa:.3g} where {one} would start again: end the grid lower")
                due.append(one)
        return due

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        if not self.at_zero_alpha:
            finite(steps[0][0], steps[0][0].lam, "lam")
        ends = [s.copy() for _, s in steps]
        self.solver.visit(evaluation, [(t, end) for (t, _), end in zip(steps, ends, strict=True)], orders)
        after = [*(s for _, s in steps[1:]), None]
        for i, ((t, s), end, later) in enumerate(zip(steps, ends, after, strict=True)):
            order = None if orders is None else orders[i]
            due = [(one, one.count(len(steps))) for one in self._due(t, s, later)]
            s.coefficients = end, [(one, self._way_down(evaluation, one, s, count, order)) for one, count in due]

    def _way_down(
        self, evaluation: Evaluation, one: Interval, s: Level, steps: int, order: int | None
    ) -> tuple[Level, ...]:
        """The levels of a restart, from the interval's upper end down to s."""
        sde = linear(evaluation.sde)
        start = sde.t_of_lam(-math.log(one.high)).item()
        row = (*evaluation.at(karras(sde, steps, start, s.time)[:-1], 0), s.copy())
        if abs(row[0].kappa / one.high - 1) > 1e-6:
            raise SolverError(f"sigma/alpha ends at {row[0].kappa:.3g}, below {one}: lower it")
        row[-1].index = len(row) - 1
        self.solver.visit(evaluation, list(itertools.pairwise(row)), _all_of(order, steps))
        return row

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Solver, Level, list[WayDown]]]:
        """For each step its solver, the level that it ends at, and the restarts there."""
        count = len(levels) - 1
        solver, own = self.solver.step_orders(count, orders)
        entries, begin, segment = [], 0, [levels[0]]
        for i, (s, one) in enumerate(zip(levels[1:], members(solver, count, own), strict=True)):
            end, restarts = s.coefficients
            segment.append(end)
            order = None if orders is None else orders[i]
            entries.append((one, end, [self._way(model, interval, row, order) for interval, row in restarts]))
            if restarts or s is levels[-1]:
                # A history begins anew after a restart.
                set_coefficients(solver, model, segment, None if own is None else own[begin : i + 1])
                begin, segment = i + 1, [s]
        return entries

    def _way(self, model: BoundModel, one: Interval, row: Sequence[Level], order: int | None) -> WayDown:
        count = len(row) - 1
        solver, orders = self.solver.step_orders(count, _all_of(order, count))
        set_coefficients(solver, model, row, orders)
        return WayDown(one.times, row, members(solver, count, orders))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        solver, end, restarts = s.coefficients
        x, state = solver.step(model, x, t, end, state, noise)
        draws = itertools.count()
        for times, row, solvers in restarts:
            for _ in range(times):
                x, state = renoised(x, s, row[0], noise(t, s, x, next(draws)), self.s_noise), None
                for one, (above, below) in zip(solvers, itertools.pairwise(row), strict=True):
                    x, state = one.step(model, x, above, below, state, noise)
        return x, None if restarts else state
