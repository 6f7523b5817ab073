"""What a solver is: a value with a step from one level to a later one."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sdediff._utils.errors import Error
from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.score_model import Model
from sdediff.noise.counter import Noise
from sdediff.sde.base import SDE
from sdediff.solvers.facts import fact
from sdediff.solvers.fields import refusal, wrong_field
from sdediff.solvers.kernel import StepKernel


class SolverError(Error, ValueError):
    """A solver cannot serve this model, process or grid; the message says why and what to use."""


def finite(t: Level, value: float, what: str) -> float:
    """A coefficient of the SDE, refused in a sentence where alpha = 0 makes it infinite."""
    if not math.isfinite(value):
        raise SolverError(f"at t={t.time} alpha is 0 and {what} is infinite: start below it (start=sde.t_max)")
    return value


@dataclass(frozen=True)
class Solver(ABC):
    """One step from t to s < t; a frozen dataclass of hyper-parameters, so a value that threads may share.

    The facts below say what a solver is; a class overrides one by a plain attribute, `order = 2`, by a field, or by
    a property where its hyper-parameters decide. A run calls `visit` and `coefficients` once, then `step` per step.
    alone: whether it goes from noise to data by itself; a corrector that needs a predictor says False.
    """

    alone: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        """Fields that a class's own check fails on, not refuses, are refused by what they are declared as."""
        if "__post_init__" in vars(cls):
            cls.__post_init__ = _refusing(cls.__post_init__)  # type: ignore[attr-defined]

    @fact
    def order(self) -> int | None:
        """The measured order of convergence to the probability flow; None for stochastic and adaptive solvers."""
        return None

    @fact
    def calls(self) -> int | None:
        """Network evaluations a step; None where steps differ (`spent` counts a run's) or choose at run time."""
        return 1

    @fact
    def strong_order(self) -> float | None:
        """The order against the same Brownian path, where one is claimed."""
        return None

    @fact
    def corrector(self) -> bool:
        """Whether it stays at its level and leaves p_t invariant."""
        return False

    @fact
    def adaptive(self) -> bool:
        """Whether a step chooses its network evaluations by the states."""
        return False

    @fact
    def recordable(self) -> bool:
        """Whether all its randomness is the noise that a step is given, so that a recorded loop serves other noise."""
        return True

    @fact
    def at_zero_alpha(self) -> bool:
        """Whether a run may start where alpha = 0."""
        return False

    @fact
    def needs_alpha(self) -> bool:
        """Whether it uses alpha and sigma, so serves linear processes alone."""
        return True

    @fact
    def calls_at_end(self) -> bool:
        """Whether a step may evaluate the network at its own end s."""
        return True

    @fact
    def two_predictions(self) -> bool:
        """Whether a step is formed from x0 and eps alone, which may then be two predictions."""
        return False

    @fact
    def grid(self) -> str:
        """The default grid; "" for the process's own."""
        return ""

    @fact
    def steps(self) -> int:
        """The default number of steps."""
        return 20

    @fact
    def reference(self) -> str:
        """The paper, with its equation or algorithm."""
        return ""

    @fact
    def tried(self) -> int:
        """The most steps of a run that is tried on Gaussian data first: at most 9, correctors apart."""
        return 9

    @fact
    def stochastic(self) -> bool:
        """Whether a step draws noise."""
        return False

    @property
    def no_kernel(self) -> str:
        """Why a step is no draw from a Gaussian that `kernel` gives; "" where it is one."""
        if not self.stochastic:
            return "it is deterministic"
        return "its class does not define `kernel`" if type(self).kernel is Solver.kernel else ""

    @property
    def kind(self) -> str:
        """ "corrector" where it needs a predictor, else "SDE" or "ODE"."""
        return "corrector" if not self.alone else "SDE" if self.stochastic else "ODE"

    def spent(self, steps: int) -> int | None:
        """Network evaluations of a run of `steps` steps, without a last jump to data; None: chosen at run time."""
        return None if self.calls is None else self.calls * (steps + 1 if self.corrector else steps)

    def strain(self, t: Level, s: Level) -> float:
        """A step's length over the most that errors bear: a run warns of steps above 1. 0 where none is known."""
        return 0.0

    def fit(self, calls: int) -> tuple[Solver, int] | None:
        """The solver, in a pattern of its own if it has one, and the most steps for so many evaluations, or None."""
        steps = bisect.bisect_right(range(1, calls + 1), calls, key=lambda n: self.spent(n) or 0)
        return (self, steps) if steps else None

    def lowered(self, order: int) -> Solver:
        """The same solver at a lower order, whose history it can go on with; itself where it has one order."""
        return self

    def inner(self, sde: SDE, t: Level, s: Level) -> Sequence[float]:
        """Times, or AtLam, between t and s that a step evaluates; they arrive as the levels `s.inner`."""
        return ()

    def step_orders(self, steps: int, orders: Sequence[int] | None = None) -> tuple[Solver, Sequence[int] | None]:
        """The solver that makes the steps of a run of `steps` steps, and the most order of each; None for its own.

        By default itself at the orders given. A solver whose order changes over a run names the one that it lowers.
        """
        return self, orders

    def visit(
        self, evaluation: Evaluation, steps: Sequence[tuple[Level, Level]], orders: Sequence[int] | None = None
    ) -> None:
        """Give each end s of the steps (t, s) its levels `s.inner`; by default those that `inner` names.

        orders: as in `coefficients`.
        """
        if orders is None and type(self).inner is Solver.inner:
            return
        solvers = members(self, len(steps), orders)
        places = [tuple(one.inner(evaluation.sde, t, s)) for one, (t, s) in zip(solvers, steps, strict=True)]
        levels = iter(evaluation.at_places([place for row in places for place in row]))
        for (t, s), row in zip(steps, places, strict=True):
            s.inner = tuple(itertools.islice(levels, len(row)))
            for level in s.inner:
                level.index = t.index

    def coefficients(
        self, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
    ) -> Sequence[Any] | None:
        """What each step needs, computed together over the levels of a run: an entry for each, `s.coefficients` there.

        A corrector has an entry a level. orders: the most order that each step may have (lower order at the end).
        """
        return None

    @abstractmethod
    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        """x at s from x at t, and the history for the next step (None before the first)."""

    def kernel(self, model: Model, x: Tensor, t: Level, s: Level, state: Any = None) -> StepKernel:
        """The Gaussian of x_s given x_t and the history, of which the step draws; SolverError where it is none."""
        raise SolverError(f"{self!r} has no transition density: {self.no_kernel}")


# The names of the facts, for solvers that answer by the solver inside them.
FACTS = tuple(name for name, value in vars(Solver).items() if isinstance(value, fact))


def members(solver: Solver, steps: int, orders: Sequence[int] | None) -> list[Solver]:
    """The solver of every step: itself, or lowered to the order of the step."""
    if orders is None:
        return [solver] * steps
    lowered = {order: solver.lowered(order) for order in set(orders)}
    return [lowered[order] for order in orders]


def check_fields(solver: Solver) -> None:
    """Refuse hyper-parameters of a kind that their declaration does not allow, NaN included."""
    fault = wrong_field(solver)
    if fault is not None:
        raise SolverError(fault)


def _refusing(own: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(own)
    def check(solver: Any) -> None:
        try:
            own(solver)
        except Error:
            raise
        except Exception as error:
            raise SolverError(refusal(solver, error)) from error

    return check


def set_coefficients(
    solver: Solver, model: BoundModel, levels: Sequence[Level], orders: Sequence[int] | None = None
) -> None:
    """Put what `solver.coefficients` gives for these levels into the levels that steps end at."""
    entries = solver.coefficients(model, levels, orders)
    if entries is not None:
        for level, entry in zip(levels if solver.corrector else levels[1:], entries, strict=True):
            level.coefficients = entry
