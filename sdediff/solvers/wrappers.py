"""Solvers made of solvers: predictor-corrector, and lower order at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor

from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.base import FACTS, Solver, SolverError, members, set_coefficients
from sdediff.solvers.kernel import StepKernel


@dataclass(frozen=True)
class Wrapper(Solver):
    """A solver around another, abstract: every fact that a subclass does not state is the inner solver's."""

    solver: Solver

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        return self.solver.inner(sde, t, s)

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        self.solver.visit(evaluation, steps, orders)

    def spent(self, steps: int) -> int | None:
        return self.solver.spent(steps)

    def strain(self, t: Level, s: Level) -> float:
        return self.solver.strain(t, s)

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> Sequence[Any] | None:
        return self.solver.coefficients(model, levels, orders)


for _name in (*FACTS, "alone"):
    setattr(Wrapper, _name, property(attrgetter(f"solver.{_name}")))


@dataclass(frozen=True)
class PredictorCorrector(Wrapper):
    """A predictor step and a corrector step at every level: the corrector at t before it, or at s after it.

    first: "corrector" as the released code has it, "predictor" as the paper's algorithm 1. Facts are the predictor's
    apart from those that both share. Song et al. 2021.
    """

    with_corrector: Solver
    first: str = "corrector"

    reference = "Song et al. 2021, algorithm 1"
    no_kernel = "a predictor and a corrector step together are no Gaussian: take the predictor alone"

    def __post_init__(self) -> None:
        if self.solver.corrector or not self.with_corrector.corrector:
            raise SolverError(
                f"predictor-corrector takes a predictor and a corrector, given {self.solver!r} and "
                f"{self.with_corrector!r}"
            )
        if self.first not in ("corrector", "predictor"):
            raise SolverError(f"first={self.first!r}: write 'corrector' (released code) or 'predictor' (paper)")

    @property
    def calls(self) -> int | None:
        a, b = self.solver.calls, self.with_corrector.calls
        return None if a is None or b is None else a + b

    def spent(self, steps: int) -> int | None:
        # The corrector visits a level in every step, as many as the predictor has.
        both = self.solver.spent(steps), self.with_corrector.calls
        return None if both[0] is None or both[1] is None else both[0] + both[1] * steps

    @property
    def order(self) -> int | None:
        return None

    @property
    def strong_order(self) -> float | None:
        return None

    @property
    def adaptive(self) -> bool:
        return self.solver.adaptive or self.with_corrector.adaptive

    @property
    def recordable(self) -> bool:
        return self.solver.recordable and self.with_corrector.recordable

    @property
    def stochastic(self) -> bool:
        return self.solver.stochastic or self.with_corrector.stochastic

    @property
    def at_zero_alpha(self) -> bool:
        return self.solver.at_zero_alpha and self.with_corrector.at_zero_alpha

    @property
    def needs_alpha(self) -> bool:
        return True

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Level, Level]]:
        """For each step the corrector's level and the predictor's end, each with its own coefficients."""
        stays, ends = [v.copy() for v in levels], [levels[0], *(_end(s) for s in levels[1:])]
        set_coefficients(self.with_corrector, model, stays)
        set_coefficients(self.solver, model, ends)
        return list(zip(stays[:-1] if self.first == "corrector" else stays[1:], ends[1:], strict=True))

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        stay, end = s.coefficients
        predicted, corrected = state or (None, None)
        # The predictor keeps the noise as it is (a path stays a path), the corrector draws elsewhere.
        other = noise.shifted()
        if self.first == "corrector":
            x, corrected = self.with_corrector.step(model, x, stay, stay, corrected, other)
        x, predicted = self.solver.step(model, x, t, end, predicted, noise)
        if self.first == "predictor":
            x, corrected = self.with_corrector.step(model, x, stay, stay, corrected, other)
        return x, (predicted, corrected)


def _end(s: Level) -> Level:
    """A copy of s, as the end of an inner solver's step, with what that solver's `visit` put there."""
    end = s.copy()
    end.inner, end.coefficients = s.inner, s.coefficients
    return end


# No solver has a higher order than this.
_HIGHEST = 9


@dataclass(frozen=True)
class LowerOrderFinal(Wrapper):
    """A solver at order min(order, last + k - 1) where k steps are left, this one included.

    last: the order of the last step. below: only in runs of fewer steps than this; None for all. The order is
    the solver's: formally min(order, last + 1), but x0 hardly changes where the noise ends. Lu et al. 2022b.
    """

    last: int = 1
    below: int | None = None

    def __post_init__(self) -> None:
        if self.last < 1 or (self.below is not None and self.below < 1):
            raise SolverError(f"last={self.last}, below={self.below}: orders and steps are positive whole numbers")
        if self.solver.order == 1 or self.solver.lowered(1) == self.solver:
            raise SolverError(f"{self.solver!r} has no lower order to end with: give a multistep solver of order 2 up")

    @property
    def calls(self) -> int | None:
        own = self.solver.calls
        return own if self.solver.lowered(self.last).calls == own else None

    def _orders(self, steps: int) -> list[int]:
        """The most order of every step of a run."""
        if self.below is not None and steps >= self.below:
            return [_HIGHEST] * steps
        return [min(self.last + steps - 1 - i, _HIGHEST) for i in range(steps)]

    def step_orders(self, steps: int, orders: Sequence[int] | None = None) -> tuple[Solver, Sequence[int] | None]:
        own = self._orders(steps)
        return self.solver.step_orders(steps, own if orders is None else [*map(min, own, orders)])

    def spent(self, steps: int) -> int | None:
        total = 0
        for i, member in enumerate(members(self.solver, steps, self._orders(steps))):
            through, before = member.spent(i + 1), member.spent(i) if i else 0
            if through is None or before is None:
                return None
            total += through - before
        return total

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        solver, orders = self.step_orders(len(steps), orders)
        solver.visit(evaluation, steps, orders)

    def lowered(self, order: int) -> Solver:
        return self.solver.lowered(order)

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> list[tuple[Solver, Level]]:
        """For each step its solver of lower order, and the step's end with the coefficients of that order."""
        ends = [levels[0], *(_end(s) for s in levels[1:])]
        solver, orders = self.step_orders(len(ends) - 1, orders)
        set_coefficients(solver, model, ends, orders)
        return list(zip(members(solver, len(ends) - 1, orders), ends[1:], strict=True))

    @property
    def no_kernel(self) -> str:
        return self.solver.no_kernel

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        member, end = s.coefficients
        return member.kernel(model, x, t, end, state)

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        member, end = s.coefficients
        return member.step(model, x, t, end, state, noise)
