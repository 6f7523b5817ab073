"""What a run is: its plan, its states and its loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdediff.grids.grids import GridLike
from sdediff.grids.levels import Level, levels
from sdediff.model.prediction import Prediction
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Noise
from sdediff.sampling.plan import Plan, check_eval, noise_for, placement, plan
from sdediff.sde.base import linear
from sdediff.solvers import Solver, SolverError


class State(NamedTuple):
    """A run at one level: x (B, ...), the step's first prediction there, and the solver's history before it."""

    t: Level
    x: Tensor
    prediction: Prediction | None
    history: Any


class Counter:
    """Counts the calls of the network that it wraps."""

    def __init__(self) -> None:
        self.calls = 0

    def wrap(self, net: Callable[..., Any]) -> Callable[..., Any]:
        """The network, counted."""

        def counted(*args: Any, **cond: Any) -> Any:
            self.calls += 1
            return net(*args, **cond)

        return counted


class _Recorder:
    """A model, of whatever class, that remembers the first prediction since `first` was cleared."""

    def __init__(self, model: ScoreModel) -> None:
        self.model, self.sde, self.stats = model, model.sde, model.stats
        self.first: Prediction | None = None

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        prediction = self.model(x, t)
        if self.first is None:
            self.first = prediction
        return prediction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class Run(NamedTuple):
    """Everything that a run depends on; `states()` is the loop."""

    model: ScoreModel
    plan: Plan
    x: Tensor
    noise: Noise
    first: int = 0
    history: Any = None

    def ready(self) -> tuple[tuple[Level, ...], _Recorder]:
        """What the loop needs beyond the states: the levels, and the model with its clocks there."""
        row = levels(self.model.sde, self.plan.times, self.plan.solver.inner)
        return row, _Recorder(self.model.on(row, self.x))

    def states(self, ready: tuple[tuple[Level, ...], _Recorder] | None = None) -> Iterator[State]:
        """The state at every level, each with what `iterate(resume=)` needs to go on from there."""
        used, x, history = self.plan.solver, self.x, self.history
        row, recorder = ready or self.ready()
        model: Any = recorder
        last, moves, kind, shape = len(row) - 1, used.moves, x.dtype, x.shape
        for i in range(self.first, last if moves or self.first == last else last + 1):
            recorder.first = None
            t = row[i]
            s = row[i + 1] if moves else t
            try:
                new, later = used.step(model, x, t, s, history, self.noise)
            except Exception as error:
                error.add_note(f"raised in the step of {used!r} from {t!r} to {s!r}")
                raise
            if new.dtype is not kind or new.shape != shape:
                raise SolverError(f"{used!r} turned {tuple(shape)} {kind} into {tuple(new.shape)} {new.dtype}")
            if i < last:
                yield State(t, x, recorder.first, history)
            x, history = new, later
        yield State(row[last], x, recorder.model(x, row[last]) if self.plan.denoise else None, history)


def prepare(
    model: ScoreModel,
    shape: Sequence[int] | None = None,
    *,
    solver: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid: GridLike | None = None,
    seed: int = 0,
    index: int | Sequence[int] = 0,
    x: Tensor | None = None,
    start: float | None = None,
    stop: float | None = None,
    cond: dict[str, Any] | None = None,
    denoise: bool = True,
    noise: str | Noise = "counter",
    dtype: torch.dtype | None = None,
    device: Any = None,
    resume: State | None = None,
) -> Run:
    """A run with every argument resolved and checked; the arguments are `sample`'s and `iterate`'s."""
    check_eval(model)
    source = noise_for(noise, model, seed, index)
    bound = model.given(**cond) if cond else model
    if resume is not None:
        times = torch.tensor([v.time for v in resume.t.grid], dtype=torch.float64)
        made = plan(model, solver, grid_=times, denoise=denoise)
        return Run(bound, made, resume.x, source, resume.t.index, resume.history)
    size = shape if x is None else x.shape
    made = plan(model, solver, steps, calls, grid, start, stop, denoise, size, cond=cond, dtype=dtype, device=device)
    if x is None:
        x = _prior(model, made, shape, source, dtype, device)
    elif shape is not None and tuple(shape) != tuple(x.shape):
        raise ValueError(f"given x of shape {tuple(x.shape)} and shape={tuple(shape)}: leave one out")
    else:
        x = x.to(dtype=dtype or x.dtype, device=device or x.device)
    return Run(bound, made, x, source)


def _prior(
    model: ScoreModel,
    made: Plan,
    shape: Sequence[int] | None,
    noise: Noise,
    dtype: torch.dtype | None,
    device: Any,
) -> Tensor:
    if shape is None:
        raise ValueError("give the states' shape, e.g. (64, 1, 8, 8), or x= to begin from")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)}: needed are a batch size and at least one dimension, all positive")
    if not model.sde.linear:
        raise SolverError(f"{type(model.sde).__name__} does not say what its prior is: give x= to begin from")
    kind, place = placement(model, dtype, device)
    z = noise.initial(torch.empty(tuple(shape), dtype=kind, device=place))
    return z * linear(model.sde).sigma(made.times[:1]).item()
