"""What a run is: its plan, then a solver's steps over a table with everything that they need, made before the first."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import finite
from sdediff.grids.grids import FROM_T_MAX, GridLike, make_grid
from sdediff.grids.levels import Evaluation, Level
from sdediff.model.bound import BoundModel
from sdediff.model.network import check_eval as check_eval
from sdediff.model.network import placement as placement
from sdediff.model.network import wrote
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.model.velocity_only import WHY
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Counter, Noise
from sdediff.noise.stream import Stream
from sdediff.sampling.compatibility import check_changes
from sdediff.sampling.not_finite import lost, not_falling
from sdediff.sampling.starts import check_alone, default_start, warn_of_size, warn_of_strain
from sdediff.solvers import Solver, SolverError
from sdediff.solvers import solver as solver_of
from sdediff.solvers.base import set_coefficients
from sdediff.solvers.registry import REGISTRY

Dtypes = tuple[torch.dtype, ...]
NOISES: dict[str, type[Noise]] = {"counter": Counter, "brownian": Brownian, "stream": Stream}


# Names that choose solver and grid by measurement on a model: (model, shape, steps=, calls=, start=, stop=, denoise=,
# cond=, dtype=, device=) -> (solver, grid). `auto` is added by the package's __init__: it stands above.
CHOOSERS: dict[str, Callable[..., tuple[Solver, GridLike]]] = {}


class Plan(NamedTuple):
    """What a run will do: its solver, its times, and whether a last network evaluation jumps to data."""

    solver: Solver
    times: Tensor
    denoise: bool

    def prior(self, model: ScoreModel, shape: Any, noise: Noise, kind: tuple[torch.dtype, torch.device]) -> Tensor:
        """States drawn from the prior at the start, of such a dtype and device."""
        sde: Any = model.sde
        if not sde.linear:
            raise SolverError(f"{type(sde).__name__} does not say what its prior is: give x= to begin from")
        if not self.solver.alone:
            check_alone(self.solver)
        z = noise.initial(torch.empty(tuple(shape), dtype=kind[0], device=kind[1]))
        return z * sde.sigma(self.times[:1]).item()


def make_plan(
    model: ScoreModel,
    solver: str | Solver = "dpmpp_2m",
    *,
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
) -> Plan:
    """Resolve names and counts: `steps` steps, or as many as fit into `calls` evaluations, the last included."""
    made = REGISTRY.get(solver) if isinstance(solver, str) else None
    solver, sde = solver_of(solver) if made is None else made(), model.sde
    if solver.needs_alpha and not sde.linear:
        raise SolverError(
            f"{solver!r} needs alpha and sigma, which {type(sde).__name__} does not give: "
            "use euler_maruyama, euler, heun or a black-box solver"
        )
    if model.velocity_only and (solver.stochastic or solver.corrector):
        raise SolverError(f"{solver!r} needs a score, and {WHY}: take an ODE solver, such as dpmpp_2m or heun")
    if model.changes:
        check_changes(model, solver)
    denoise = denoise and sde.linear
    fixed = grid is not None and not isinstance(grid, str) and not callable(grid)
    if fixed and (steps is not None or calls is not None):
        raise InputError("the grid's times were given: leave steps and calls out")
    if calls is not None:
        solver, steps = _fitted(solver, calls, denoise, steps)
    if grid is None:
        grid = (solver.grid if sde.linear else "") or sde.grid
    # The grids over the log-SNR start at t_max by themselves.
    if start is None and not fixed and sde.linear and (grid not in FROM_T_MAX or not solver.at_zero_alpha):
        start = default_start(solver, model)
    if steps is None and not fixed and grid != "knots":
        steps = solver.steps
    return Plan(solver, make_grid(grid, sde, steps, start, stop), denoise)


def _fitted(solver: Solver, calls: int, denoise: bool, steps: int | None) -> tuple[Solver, int]:
    if steps is not None:
        raise InputError(f"given steps={steps} and calls={calls}: write one of them")
    if calls > 10**7:
        raise InputError(f"calls={calls}: a run spends 10 million evaluations at most")
    least = solver.spent(1)
    if least is None:
        known = "chooses its calls at run time: set rtol and atol", "cannot count its calls: write steps="
        raise SolverError(f"{solver!r} {known[not solver.adaptive]} in place of calls={calls}")
    fitted = solver.fit(calls - denoise)
    if fitted is None:
        raise InputError(f"calls={calls} is too few for {solver!r}: it needs at least {least + denoise}")
    return fitted


def noise_for(kind: str | Noise, model: ScoreModel, seed: int, index: int | Sequence[int]) -> Noise:
    """A noise by name ("counter", "brownian", "stream") for these samples; objects pass through."""
    if isinstance(kind, Noise):
        for name, value in (("seed", seed), ("index", index)):
            if type(value) is not int or value:
                raise InputError(
                    f"given {name}={value} beside a {type(kind).__name__} object, which has its own: leave it out"
                )
        return kind
    if kind not in NOISES:
        raise InputError(nearest(kind, NOISES, "noise"))
    return Brownian(seed, index, span=model.sde.T) if kind == "brownian" else NOISES[kind](seed, index)


class State(NamedTuple):
    """A run at one level t: x (B, ...), the first prediction of the step there, the solver's history before it.

    times: the run's whole grid, so that `iterate(resume=state)` goes on from here.
    """

    t: Level
    x: Tensor
    prediction: Prediction | None
    history: Any
    times: Tensor


class SampleRecord(NamedTuple):
    """A whole run: the result x, times (n + 1,), trajectory (n + 1, B, ...) and network evaluations.

    log_prob: with log_prob="steps", log density of each step, nats, float64 (n, B); solver: that made the steps.
    """

    x: Tensor
    times: Tensor
    trajectory: Tensor
    calls: int
    log_prob: Tensor | None = None
    solver: Solver | None = None

    def __repr__(self) -> str:
        return f"SampleRecord({tuple(self.x.shape)} after {len(self.times) - 1} steps, {self.calls} calls)"


class RunTable(NamedTuple):
    """The levels of a run, with what its solver needs at each, and the model bound to them."""

    levels: tuple[Level, ...]
    evaluation: Evaluation
    model: BoundModel

    def again(self, model: ScoreModel, x: Tensor, dtypes: Dtypes | None = None) -> RunTable:
        """The same levels for the same process under another network, other conditions or another batch."""
        return self._replace(model=BoundModel(model, self.evaluation, x, self.model.readings, dtypes))


def make_table(model: ScoreModel, plan: Plan, x: Tensor, dtypes: Dtypes | None = None, warn: bool = True) -> RunTable:
    """Evaluate the process, bind the model and compute the solver's coefficients, once, for states like x.

    dtypes: the network's, where it was looked at before. warn: of steps that are too long for the solver.
    """
    evaluation = Evaluation(model.sde)
    levels, stays = evaluation.at(plan.times, 0), plan.solver.corrector
    if model.sde.linear:
        lams = list(map(operator.attrgetter("lam"), levels))
        falls = operator.lt if levels[0].time > levels[-1].time else operator.gt
        if not all(map(falls, lams, lams[1:])):
            raise not_falling(model.sde, levels)
        strained = warn and type(plan.solver).strain is not Solver.strain and warn_of_strain(plan.solver, levels)
        if warn and not strained and (stays or len(levels) <= 10):
            warn_of_size(plan.solver, model, plan.times, plan.denoise, levels)
    if not stays:
        plan.solver.visit(evaluation, list(itertools.pairwise(levels)))
    bound = BoundModel(model, evaluation, x, dtypes=dtypes)
    set_coefficients(plan.solver, bound, levels)
    return RunTable(levels, evaluation, bound)


class Run(NamedTuple):
    """Everything that a run depends on; `states` is the loop. dtypes: of the network, where it was looked at."""

    model: ScoreModel
    plan: Plan
    x: Tensor
    noise: Noise
    first: int = 0
    history: Any = None
    dtypes: Dtypes | None = None

    def states(self, table: RunTable | None = None, check: bool = True) -> Iterator[State]:
        """The state at every level, each with what `iterate(resume=)` needs to go on from there.

        check: refuse a last state that is not finite, naming the step where that began, and warn of long steps; False
        where the caller judges the result.
        """
        table = table or make_table(self.model, self.plan, self.x, self.dtypes, check)
        solver, x, history, times = self.plan.solver, self.x, self.history, self.plan.times
        levels, _, model = table
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
        kept = x.clone() if check and self.plan.denoise else x
        final = State(levels[last], x, model(x, levels[last]) if self.plan.denoise else None, history, times)
        output = x if final.prediction is None else final.prediction.raw
        if check and not (finite(x) and finite(output)):
            raise lost(self.states(table, check=False), solver)
        # Writes through `.data` or NumPy leave no trace in a tensor's version, which the other evaluations look at.
        if kept is not x and not torch.equal(kept, x):
            raise wrote()
        yield final
