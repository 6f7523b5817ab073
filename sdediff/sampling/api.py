"""From noise to data and back: `iterate` yields the states of a run, `sample` consumes it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.progress import track
from sdediff.grids.levels import level
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.cuda_graph import replayed
from sdediff.sampling.run import Counter, Run, State, prepare
from sdediff.solvers import Solver, SolverError


@dataclass(frozen=True, eq=False)
class Record:
    """A whole run: the result x, times (n + 1,), trajectory (n + 1, B, ...) and network calls."""

    x: Tensor
    times: Tensor
    trajectory: Tensor
    calls: int


def iterate(model: ScoreModel, shape: Sequence[int] | None = None, **options: Any) -> Iterator[State]:
    """Yield a State (t, x, prediction, history) at every level; options as in `sample`.

    resume: a state that an earlier run with the same solver and seed yielded; the run goes on from it to
    the same result, to the bit. Gradients are the caller's choice (`torch.no_grad()`).
    """
    return prepare(model, shape, **options).states()


def sample(
    model: ScoreModel,
    shape: Sequence[int] | None = None,
    *,
    callback: Callable[[State], None] | None = None,
    full: bool = False,
    grad: bool = False,
    compile: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Samples (B, ...) of a model by any solver, from the prior to data; a Record with full=True.

    solver: name or object, "auto" to measure on this model which to take; steps (moves) or calls (network
    calls, the last included); grid: name, function or times; seed, index: sample i depends on (seed, i)
    alone, index is the first sample's number or one a sample; x, start: begin elsewhere; stop; cond:
    conditions for the network; denoise: the last jump to data; noise: "counter", "brownian", "stream" or an
    object; dtype, device; resume: a State to go on from. callback is called with every State; grad=True
    keeps the graph; compile=True compiles the network and, on CUDA, replays the loop as one graph; progress:
    True, False, or by default on runs over two seconds at a terminal.
    """
    made, counter = prepare(model, shape, **options), Counter()
    if compile:
        made = made._replace(model=made.model.map_net(_compiled))
        plain = callback is None and not (full or grad or made.history or made.plan.solver.adaptive)
        if plain and made.x.device.type == "cuda":
            with torch.no_grad():
                return replayed(made, model.net)
    if full:
        made = made._replace(model=made.model.map_net(counter.wrap))
    trajectory: list[Tensor] = []
    with torch.set_grad_enabled(grad):
        for state in track(made.states(), len(made.plan.times), "sampling", progress):
            if callback is not None:
                callback(state)
            if full:
                trajectory.append(state.x)
        x = state.x if state.prediction is None or not made.plan.denoise else state.prediction.x0
    return Record(x, made.plan.times[made.first :], torch.stack(trajectory), counter.calls) if full else x


_COMPILED: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


def _compiled(net: Callable[..., Any]) -> Callable[..., Any]:
    """The network through torch.compile, once a network: never the unrolled loop."""
    if net not in _COMPILED:
        _COMPILED[net] = torch.compile(net)
    return _COMPILED[net]


def encode(
    model: ScoreModel, x: Tensor, *, solver: str | Solver = "ode", t0: float | None = None, **options: Any
) -> Tensor:
    """The probability-flow latent of data x (B, ...): the state at T of the flow that starts at alpha(t0) x.

    solver: any deterministic solver, by default dopri5 with rtol = atol = 1e-5; steps, grid, cond as in
    `sample`. t0: the process's t0 (1e-5). Song et al. 2021, section 4.3.
    """
    made = _flow_run(model, x, solver, t0, options)
    start = level(model.sde, made.plan.times[-1].item())
    rising = made.plan._replace(times=made.plan.times.flip(0))
    return _last(made._replace(plan=rising, x=x * start.alpha))


def decode(
    model: ScoreModel, z: Tensor, *, solver: str | Solver = "ode", t0: float | None = None, **options: Any
) -> Tensor:
    """Data x (B, ...) from a latent: the flow from T to t0, divided by alpha(t0); the inverse of `encode`."""
    made = _flow_run(model, z, solver, t0, options)
    return _last(made) / level(model.sde, made.plan.times[-1].item()).alpha


def _flow_run(model: ScoreModel, x: Tensor, solver: str | Solver, t0: float | None, options: dict[str, Any]) -> Run:
    options = {"stop": model.sde.t0 if t0 is None else t0, "denoise": False, **options}
    made = prepare(model, solver=solver, x=x, **options)
    if made.plan.solver.stochastic or not made.plan.solver.moves:
        raise SolverError(f"{made.plan.solver!r} draws noise: encode and decode need a deterministic solver")
    return made


def _last(made: Run) -> Tensor:
    with torch.no_grad():
        *_, final = made.states()
    return final.x
