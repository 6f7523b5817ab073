"""What a run is: a solver's steps over a grid of levels, with everything that they need made before the first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sampling.plan import Plan
from sdediff.solvers import SolverError
from sdediff.solvers.base import set_coefficients


class State(NamedTuple):
    """A run at one level t: x (B, ...), the first prediction of the step there, the solver's history before it.

    times: the run's whole grid, so that `iterate(resume=state)` goes on from here.
    """

    t: Level
    x: Tensor
    prediction: Prediction | None
    history: Any
    times: Tensor


class CallCounter:
    """Counts the evaluations of the network that it wraps."""

    def __init__(self) -> None:
        self.calls = 0

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """The network, counted."""

        def counted(*args: Any, **cond: Any) -> Any:
            self.calls += 1
            return net(*args, **cond)

        return counted


class Table(NamedTuple):
    """The levels of a run, with what its solver needs at each, and the model bound to them."""

    levels: tuple[Level, ...]
    evaluation: Evaluation
    model: BoundModel

    def again(self, model: ScoreModel, x: Tensor) -> Table:
        """The same levels for the same process under another network, other conditions or another batch."""
        return self._replace(model=BoundModel(model, self.evaluation, x, self.model.readings))


def make_table(model: ScoreModel, plan: Plan, x: Tensor) -> Table:
    """Evaluate the process, bind the model and compute the solver's coefficients, once, for states like x."""
    evaluation = Evaluation(model.sde)
    levels = evaluation.at(plan.times, 0)
    if not plan.solver.corrector:
        plan.solver.visit(evaluation, list(itertools.pairwise(levels)))
    bound = BoundModel(model, evaluation, x)
    set_coefficients(plan.solver, bound, levels)
    return Table(levels, evaluation, bound)


class Run(NamedTuple):
    """Everything that a run depends on; `states` is the loop."""

    model: ScoreModel
    plan: Plan
    x: Tensor
    noise: Noise
    first: int = 0
    history: Any = None

    def states(self, table: Table | None = None) -> Iterator[State]:
        """The state at every level, each with what `iterate(resume=)` needs to go on from there."""
        solver, x, history, times = self.plan.solver, self.x, self.history, self.plan.times
        levels, _, model = table or make_table(self.model, self.plan, x)
        noise, stays, dtype, shape = self.noise.for_run(len(levels) - 1), solver.corrector, x.dtype, x.shape
        last = len(levels) - 1
        for i in range(self.first, last + 1 if stays and self.first < last else last):
            model.first = None
            t = levels[i]
            s = t if stays else levels[i + 1]
            try:
                new, later = solver.step(model, x, t, s, history, noise)
            except Exception as error:
                error.add_note(f"raised in the step of {solver!r} from {t!r} to {s!r}")
                raise
            if new.dtype is not dtype or new.shape != shape:
                raise SolverError(f"{solver!r} turned {tuple(shape)} {dtype} into {tuple(new.shape)} {new.dtype}")
            if i < last:
                # What NamedTuple's own constructor does, without a Python call a step.
                yield tuple.__new__(State, (t, x, model.first, history, times))
            x, history = new, later
        yield State(levels[last], x, model(x, levels[last]) if self.plan.denoise else None, history, times)
