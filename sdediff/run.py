"""What a run is: its plan, its states and its loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdediff.grid import GridLike, Level, grid, levels, nearest
from sdediff.model import ModelError, ScoreModel
from sdediff.noise import NOISES, Brownian, Noise
from sdediff.prediction import Prediction
from sdediff.solvers import Solver, SolverError, solver


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
    """A model that remembers the first prediction since `first` was cleared."""

    def __init__(self, model: ScoreModel) -> None:
        self.model, self.sde = model, model.sde
        self.first: Prediction | None = None

    def __call__(self, x: Tensor, t: Any) -> Prediction:
        prediction = self.model(x, t)
        if self.first is None:
            self.first = prediction
        return prediction

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class Plan(NamedTuple):
    """What a run will do: its solver, its times, and whether a last call jumps to data."""

    solver: Solver
    times: Tensor
    denoise: bool


def plan(
    model: ScoreModel,
    solver_: str | Solver = "dpmpp_2m",
    steps: int | None = None,
    calls: int | None = None,
    grid_: GridLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    denoise: bool = True,
) -> Plan:
    """Resolve names and counts: `steps` moves, or as many as fit into `calls` network calls, the last included."""
    used, sde = solver(solver_), model.sde
    if used.needs_alpha and not sde.linear:
        raise SolverError(
            f"{used!r} needs alpha and sigma, which {type(sde).__name__} does not give: "
            "use euler_maruyama, euler, heun or a black-box solver"
        )
    denoise = denoise and sde.linear
    fixed = grid_ is not None and not isinstance(grid_, str) and not callable(grid_)
    if fixed and (steps is not None or calls is not None):
        raise ValueError("the grid's times were given: leave steps and calls out")
    if calls is not None:
        steps = _steps(used, calls, denoise, steps)
    if start is None and sde.t_max < sde.T and not (used.at_zero_alpha and model.at_zero_alpha):
        start = sde.t_max
    if grid_ is None:
        grid_ = (used.grid if sde.linear else "") or sde.grid
    if steps is None and not fixed and grid_ != "knots":
        steps = used.steps
    return Plan(used, grid(grid_, sde, steps, start, stop), denoise)


def _steps(used: Solver, calls: int, denoise: bool, steps: int | None) -> int:
    if steps is not None:
        raise ValueError(f"given steps={steps} and calls={calls}: write one of them")
    if used.calls is None:
        raise SolverError(f"{used!r} chooses its calls at run time: set rtol and atol in place of calls={calls}")
    visits = (calls - denoise) // used.calls
    steps = visits if used.moves else visits - 1
    if steps < 1:
        needed = (1 if used.moves else 2) * used.calls + denoise
        raise ValueError(f"calls={calls} is too few for {used!r}: it needs at least {needed}")
    return steps


def noise_for(kind: str | Noise, model: ScoreModel, seed: int, index: int | Sequence[int]) -> Noise:
    """A noise by name ("counter", "brownian", "stream") for these samples; objects pass through."""
    if isinstance(kind, Noise):
        return kind
    if kind not in NOISES:
        raise ValueError(nearest(kind, NOISES, "noise"))
    return Brownian(seed, index, span=model.sde.T) if kind == "brownian" else NOISES[kind](seed, index)


def placement(model: ScoreModel, dtype: torch.dtype | None, device: Any) -> tuple[torch.dtype, torch.device]:
    """Dtype and device of the states: as asked, else the network's, else torch's defaults."""
    known = None
    if isinstance(model.net, nn.Module):
        known = next((p for p in (*model.net.parameters(), *model.net.buffers()) if p.is_floating_point()), None)
    dtype = dtype or (known.dtype if known is not None else torch.get_default_dtype())
    return dtype, torch.device(device or (known.device if known is not None else "cpu"))


def check_eval(model: ScoreModel) -> None:
    """Refuse a network that is still training: its dropout or batch statistics would change the result."""
    net = model.net
    if isinstance(net, nn.Module) and net.training:
        for name, part in net.named_modules():
            if isinstance(part, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
                raise ModelError(f"the network is in train mode and {name or 'it'} is active there: write net.eval()")


class Run(NamedTuple):
    """Everything that a run depends on; `states()` is the loop."""

    model: ScoreModel
    plan: Plan
    x: Tensor
    noise: Noise
    first: int = 0
    history: Any = None

    def states(self) -> Iterator[State]:
        """The state at every level, each with what `iterate(resume=)` needs to go on from there."""
        used, x, history = self.plan.solver, self.x, self.history
        row = levels(self.model.sde, self.plan.times, used.inner)
        ready = _Recorder(self.model.on(row, x))
        last = len(row) - 1
        for i in range(self.first, last):
            ready.first = None
            after = row[i + 1] if used.moves else row[i]
            new, later = _stepped(used, ready, x, row[i], after, history, self.noise)
            yield State(row[i], x, ready.first, history)
            x, history = new, later
        if not used.moves and self.first < last:
            x, history = _stepped(used, ready, x, row[last], row[last], history, self.noise)
        yield State(row[last], x, ready.model(x, row[last]) if self.plan.denoise else None, history)


def _stepped(used: Solver, model: Any, x: Tensor, t: Level, s: Level, history: Any, noise: Noise) -> tuple[Tensor, Any]:
    try:
        new, later = used.step(model, x, t, s, history, noise)
    except Exception as error:
        error.add_note(f"raised in the step of {used!r} from {t!r} to {s!r}")
        raise
    if new.shape != x.shape or new.dtype != x.dtype:
        raise SolverError(f"{used!r} turned {tuple(x.shape)} {x.dtype} into {tuple(new.shape)} {new.dtype}")
    return new, later


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
        times = torch.tensor([v.t for v in resume.t.grid], dtype=torch.float64)
        made = plan(model, solver, grid_=times, denoise=denoise)
        return Run(bound, made, resume.x, source, resume.t.index, resume.history)
    made = plan(model, solver, steps, calls, grid, start, stop, denoise)
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
    return z * model.sde.sigma(made.times[:1]).item()  # type: ignore[attr-defined]
