"""Solvers made of solvers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor

from sdediff.grids.levels import Level
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import Solver, SolverError


@dataclass(frozen=True)
class Then(Solver):
    """One solver, then another, in every step: a corrector runs at (t, t) before the mover or (s, s) after it.

    Corrector first is the released code's predictor-corrector, mover first the paper's algorithm 1.
    Refuses pairs that do not move exactly once.
    """

    first: Solver
    second: Solver

    reference = "Song et al. 2021, algorithm 1"

    def __post_init__(self) -> None:
        movers = [v for v in (self.first, self.second) if v.moves]
        if len(movers) != 1:
            raise SolverError(f"Then takes one mover and one corrector, given {self.first!r} and {self.second!r}")

    @property
    def _mover(self) -> Solver:
        return self.first if self.first.moves else self.second

    @property
    def calls(self) -> int | None:
        a, b = self.first.calls, self.second.calls
        return None if a is None or b is None else a + b

    def spent(self, steps: int) -> int | None:
        # A corrector visits a level in every move, as many as the mover has.
        each = [
            v.spent(steps) if v.moves else v.spent(steps - 1) if steps > 1 else v.calls
            for v in (self.first, self.second)
        ]
        known = [count for count in each if count is not None]
        return sum(known) if len(known) == len(each) else None

    @property
    def adaptive(self) -> bool:
        return self.first.adaptive or self.second.adaptive

    @property
    def stochastic(self) -> bool:
        return self.first.stochastic or self.second.stochastic

    @property
    def at_zero_alpha(self) -> bool:
        return self.first.at_zero_alpha and self.second.at_zero_alpha

    @property
    def grid(self) -> str:
        return self._mover.grid

    @property
    def steps(self) -> int:
        return self._mover.steps

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return self._mover.inner(sde, t, s)

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        one, two = state or (None, None)
        # The mover keeps the noise as it is (a path stays a path), the corrector draws elsewhere.
        other = noise.shifted()
        if self.first.moves:
            x, one = self.first.step(model, x, t, s, one, noise)
            x, two = self.second.step(model, x, s, s, two, other)
        else:
            x, one = self.first.step(model, x, t, t, one, other)
            x, two = self.second.step(model, x, t, s, two, noise)
        return x, (one, two)


@dataclass(frozen=True)
class Around(Solver):
    """A solver in another's stead: what is not written anew is the inner one's."""

    solver: Solver

    # Each is read from the solver inside, as a run would read it there.
    order = property(attrgetter("solver.order"))
    calls = property(attrgetter("solver.calls"))
    strong_order = property(attrgetter("solver.strong_order"))
    moves = property(attrgetter("solver.moves"))
    adaptive = property(attrgetter("solver.adaptive"))
    at_zero_alpha = property(attrgetter("solver.at_zero_alpha"))
    needs_alpha = property(attrgetter("solver.needs_alpha"))
    grid = property(attrgetter("solver.grid"))
    steps = property(attrgetter("solver.steps"))
    reference = property(attrgetter("solver.reference"))
    stochastic = property(attrgetter("solver.stochastic"))

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return self.solver.inner(sde, t, s)

    def spent(self, steps: int) -> int | None:
        return self.solver.spent(steps)


@functools.lru_cache(maxsize=256)
def _lowered(solver: Solver, order: int) -> Solver:
    return solver.lowered(order)


@dataclass(frozen=True)
class LowerOrderFinal(Around):
    """A solver at order min(order, last + k - 1) where k moves are left, this one included.

    last: the order of the last move. below: only in runs of fewer moves than this; None for all. The order is
    the solver's: formally min(order, last + 1), but x0 hardly changes where the noise ends. Lu et al. 2022b.
    """

    last: int = 1
    below: int | None = None

    def __post_init__(self) -> None:
        if self.last < 1 or (self.below is not None and self.below < 1):
            raise SolverError(f"last={self.last}, below={self.below}: orders and moves are positive whole numbers")
        if self.solver.order == 1 or self.solver.lowered(1) == self.solver:
            raise SolverError(f"{self.solver!r} has no lower order to end with: give a multistep solver of order 2 up")

    @property
    def calls(self) -> int | None:
        own = self.solver.calls
        return own if _lowered(self.solver, self.last).calls == own else None

    def at(self, left: int, moves: int) -> Solver:
        """The solver of the move that has `left` moves left, itself included, in a run of `moves`."""
        long = self.below is not None and moves >= self.below
        return self.solver if long else _lowered(self.solver, self.last + left - 1)

    def _here(self, t: Level) -> Solver:
        moves = len(t.grid) - 1
        return self.at(moves - t.index, moves)

    def spent(self, steps: int) -> int | None:
        total = 0
        for i in range(steps):
            member = self.at(steps - i, steps)
            upto, before = member.spent(i + 1), member.spent(i) if i else 0
            if upto is None or before is None:
                return None
            total += upto - before
        return total

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return self._here(t).inner(sde, t, s)

    def lowered(self, order: int) -> Solver:
        return _lowered(self.solver, order)

    def step(self, model: ScoreModel, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        return self._here(t).step(model, x, t, s, state, noise)


def lower_order_final(solver: str | Solver, last: int = 1, below: int | None = None) -> LowerOrderFinal:
    """A solver, by name or object, that ends at lower order: min(order, last + k - 1) with k moves left.

    last: the order of the last move; 2 where the last jump to data counts as one more step, as in libraries whose
    grids end at sigma = 0. below: only in runs of fewer moves, since long ones need no such care (10 in
    dpm-solver's code, 15 in its documentation, jump included, and elsewhere). Refuses solvers of one order.
    """
    from sdediff.solvers.registry import solver as by_name

    return LowerOrderFinal(by_name(solver), last, below)
