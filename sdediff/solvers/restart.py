"""Restart: noise added once the solver has come far, and taken out again, several times."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from sdediff.grids.grids import karras
from sdediff.grids.levels import Level, levels
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE, linear
from sdediff.solvers.base import SolverError
from sdediff.solvers.churn import Lift, ending, renoised


class Interval(NamedTuple):
    """Where and how often to restart: between sigma/alpha = low and high, `times` times, in `steps` moves each.

    steps below 1 is a share of the run's own moves, so that a finer run has finer restarts.
    """

    low: float
    high: float
    steps: float
    times: int

    def moves(self, run: int) -> int:
        """The moves of one restart in a run of so many moves, at least one."""
        return max(1, round(self.steps * run)) if self.steps < 1 else int(self.steps)


@dataclass(frozen=True)
class Restart(Lift):
    """At the level nearest to low, `times` times: x <- (alpha_up/alpha_s) x + s_noise std(x_up | x) z, then down again.

    intervals: (low, high, steps, times) each, low and high in sigma/alpha; `up` is the level of high, and the
    way down is `steps` moves of the solver on Karras's grid, or that share of the run's (1/9 is the paper's
    2 of 18). Stochastic; the restarts' calls come on top, once a run. Xu et al. 2023, algorithm 1.
    """

    intervals: tuple[Interval, ...] = (Interval(0.06, 0.3, 1 / 9, 2),)
    s_noise: float = 1.0

    calls = None
    reference = "Xu et al. 2023, algorithm 1"

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
        more = sum(one.moves(steps) * one.times for one in self.intervals)
        return None if self.solver.calls is None else self.solver.calls * (steps + more)

    def _due(self, t: Level, s: Level) -> list[Interval]:
        """The intervals whose lower end lies nearest to s, of all levels that a move reaches."""
        found = []
        for one in self.intervals:
            gap = abs(s.kappa - one.low)
            sooner = s.index > 1 and abs(t.kappa - one.low) <= gap
            if not sooner and (s.next is None or abs(s.next.kappa - one.low) >= gap):
                if s.kappa >= one.high:
                    raise SolverError(f"sigma/alpha is {s.kappa:.3g} where {one} would start again: end the grid lower")
                found.append(one)
        return found

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        groups = [list(super().inner(sde, t, s))]
        for one in self._due(t, s):
            start = linear(sde).t_of_lam(-math.log(one.high)).item()
            row = levels(sde, [*karras(linear(sde), one.moves(len(s.grid) - 1), start, s.time).tolist()[:-1], s.time])
            if abs(row[0].kappa / one.high - 1) > 1e-6:
                raise SolverError(f"sigma/alpha ends at {row[0].kappa:.3g}, below {one}: lower it")
            groups += [[a.time, *self.solver.inner(sde, a, b)] for a, b in itertools.pairwise(row)]
        if any(len(group) != len(groups[0]) + 1 for group in groups[1:]):
            raise SolverError(f"{self.solver!r} visits more inner levels in some moves than in others: restart another")
        return list(itertools.chain(*groups))

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        due = [(one, one.moves(len(s.grid) - 1)) for one in self._due(t, s)]
        total = sum(moves for _, moves in due)
        width = (len(s.inner) - total) // (1 + total)
        x, state = self.solver.step(model, x, t, ending(s, s.inner[:width]) if due else s, state, noise)
        rest, draws = s.inner[width:], itertools.count()
        for one, moves in due:
            row, rest = _row(rest, moves, width, s), rest[moves * (width + 1) :]
            for _ in range(one.times):
                x, state = renoised(x, s, row[0], noise(t, s, x, next(draws)), self.s_noise), None
                for here, there in itertools.pairwise(row):
                    x, state = self.solver.step(model, x, here, there, state, noise)
        return x, None if due else state


@functools.lru_cache(maxsize=64)
def _row(levels: tuple[Level, ...], moves: int, width: int, end: Level) -> tuple[Level, ...]:
    """A restart's own grid down to `end`, from its levels, each followed by the `width` that the next move visits."""
    groups = [levels[i * (width + 1) : (i + 1) * (width + 1)] for i in range(moves)]
    row = tuple(
        v.within(g) for v, g in zip([*[g[0] for g in groups], end], [(), *[g[1:] for g in groups]], strict=True)
    )
    for i, v in enumerate(row):
        v.index, v.grid = i, row
    return row
