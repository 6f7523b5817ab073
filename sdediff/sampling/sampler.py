"""`Sampler`: sampling with its set-up kept."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff._utils.progress import track
from sdediff.grids.grids import GridLike
from sdediff.model.casts import WIDER
from sdediff.model.network import check_eval, placement
from sdediff.model.score_model import ScoreModel, check_model
from sdediff.noise.counter import Noise
from sdediff.sampling.arguments import check_call, check_graph, check_resume, check_run, set_up
from sdediff.sampling.compiled import compiled
from sdediff.sampling.cuda_graph import CudaGraph, Graph, Recorded, recordable, replayed
from sdediff.sampling.densities import prepared, record
from sdediff.sampling.run import CHOOSERS, Plan, Run, RunTable, SampleRecord, State, make_plan, make_table, noise_for
from sdediff.sampling.starts import warn_of_ends
from sdediff.sampling.watch import CallCounter, check_gradients, watched
from sdediff.solvers import Solver, SolverError

# Kinds of model, solver, steps, calls, start, stop, denoise and noise that need no look.
_COUNT, _TIME = [int, type(None)], [float, type(None)]
_PLAIN = set(itertools.product([ScoreModel], [str], _COUNT, _COUNT, _TIME, _TIME, [bool], [str]))


class Sampler:
    """`sample` with its set-up kept: sampler(shape, seed=0) gives what sample(model, shape, seed=0, ...) gives.

    The process, the grid and the solver's coefficients are evaluated once, `solver="auto"` measures once, and with
    compile=True the compiled network and, on CUDA, the recorded loop are kept. Arguments as in `sample`. A model,
    process or statistics changed in place afterwards are not noticed: make another Sampler.
    """

    def __init__(
        self,
        model: ScoreModel | str,
        *,
        solver: str | Solver = "dpmpp_2m",
        steps: int | None = None,
        calls: int | None = None,
        grid: GridLike | None = None,
        start: float | None = None,
        stop: float | None = None,
        denoise: bool = True,
        noise: str | Noise = "counter",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        compile: bool = False,
        graph: type[Graph] = CudaGraph,
    ) -> None:
        if isinstance(model, str):
            model = check_model(model)
        self.model, self.compile = model, compile
        self._noise, self._dtype, self._device, self._make_graph = noise, dtype, device, graph
        given: dict[str, Any] = {"steps": steps, "calls": calls, "start": start, "stop": stop, "denoise": denoise}
        # What is plainly right is passed without a call: every `sample` comes by here.
        kinds = tuple(map(type, (model, solver, *given.values(), noise)))
        plain = kinds in _PLAIN and dtype is None and device is None and compile is False
        self._given = given if plain else set_up(model, solver, given, noise, dtype, device, compile)
        self._chooser = solver if isinstance(solver, str) and solver in CHOOSERS else None
        if self._chooser is not None and grid is not None:
            raise SolverError(f"solver={solver!r} chooses the grid too: leave grid out")
        self._plan = None if self._chooser else make_plan(model, solver, grid=grid, **self._given)
        if start is None and (model.stats is not None or model.card):
            warn_of_ends(model)
        self._net = compiled(model.net, self) if compile else model.net
        self._table: tuple[Any, RunTable] | None = None
        self._recorded: dict[Any, Recorded] = {}

    def __repr__(self) -> str:
        if self._plan is None:
            return f"Sampler({self.model!r}, solver={self._chooser!r}, not chosen yet)"
        times, end = self._plan.times, ", then a jump to data" if self._plan.denoise else ""
        span = f"{len(times) - 1} steps from t={times[0].item():.4g} to {times[-1].item():.4g}{end}"
        return f"Sampler({self.model!r}, {self._plan.solver!r}, {span})"

    def plan(
        self,
        shape: Sequence[int] | None = None,
        cond: dict[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Plan:
        """The solver, times and last jump of its runs; solver="auto" is chosen at the first call, for such states."""
        if self._plan is None:
            if shape is None:
                raise SolverError(f"solver={self._chooser!r} measures on states: give their shape (B, ...)")
            choose = CHOOSERS[str(self._chooser)]
            solver, grid = choose(
                self.model, shape, cond=cond, dtype=dtype or self._dtype, device=device or self._device, **self._given
            )
            ends = {name: self._given[name] for name in ("start", "stop", "denoise")}
            self._plan = make_plan(self.model, solver, grid=grid, **ends)
        return self._plan

    def run(
        self,
        shape: Sequence[int] | None = None,
        *,
        x: Tensor | None = None,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        cond: dict[str, Any] | None = None,
        resume: State | None = None,
        wrap: Callable[[Any], Any] | None = None,
    ) -> Run:
        """One run, its arguments checked. wrap: a function of the network, to count or watch its evaluations."""
        model, seen = self.model, check_eval(self.model)
        sizes = shape if type(shape) is tuple and x is None and cond is None and not model.card else ()
        if resume is not None:
            check_resume(resume, {"shape": shape, "x": x}, self._dtype, self._device, model)
        elif set(map(type, sizes)) != {int} or len(sizes) < 2 or min(sizes) < 1 or max(sizes) > 1 << 20:
            check_run(model, shape, x, cond)
        noise = noise_for(self._noise, model, seed, index)
        start = x if resume is None else resume.x
        like: Any = (shape, cond) if start is None else (start.shape, cond, self._dtype or start.dtype, start.device)
        plan = self.plan(*like)
        if self.compile:
            model = replace(model, net=self._net)
        if wrap is not None:
            model = model.map_net(wrap)
        bound = model.given(**cond) if cond else model
        if resume is not None:
            if not torch.equal(resume.times, plan.times):
                raise InputError("the state is of a run over other times: go on from it by iterate(resume=state)")
            return Run(bound, plan, resume.x, noise, resume.t.index, resume.history, seen.dtypes)
        if x is None:
            x = plan.prior(model, shape, noise, placement(model, self._dtype, self._device, seen=seen))
            return Run(bound, plan, x, noise, dtypes=seen.dtypes)
        dtype = self._dtype or x.dtype
        x = x.to(dtype=WIDER.get(dtype, dtype), device=self._device or x.device)
        return Run(bound, plan, x, noise, dtypes=seen.dtypes)

    def states(self, run: Run) -> Iterator[State]:
        """The states of a run; its table is kept for later ones of the same kind."""
        kind = run.x.shape[1:], run.x.dtype, run.x.device
        held = self._table  # read once and replaced whole, as threads may share a sampler
        if held is not None and held[0] == kind:
            return run.states(held[1].again(run.model, run.x, run.dtypes))
        table = make_table(run.model, run.plan, run.x, run.dtypes)
        self._table = kind, table
        return run.states(table)

    @overload
    def __call__(
        self,
        shape: Sequence[int] | None = None,
        *,
        x: Tensor | None = None,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        cond: dict[str, Any] | None = None,
        resume: State | None = None,
        callback: Callable[[State], None] | None = None,
        full: Literal[True],
        log_prob: Literal["steps"] | None = None,
        grad: bool | Literal["checkpoint"] = False,
        progress: bool | None = None,
    ) -> SampleRecord: ...
    @overload
    def __call__(
        self,
        shape: Sequence[int] | None = None,
        *,
        x: Tensor | None = None,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        cond: dict[str, Any] | None = None,
        callback: Callable[[State], None] | None = None,
        full: bool = False,
        log_prob: Literal["steps"],
        grad: bool | Literal["checkpoint"] = False,
        progress: bool | None = None,
    ) -> SampleRecord: ...
    @overload
    def __call__(
        self,
        shape: Sequence[int] | None = None,
        *,
        x: Tensor | None = None,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        cond: dict[str, Any] | None = None,
        resume: State | None = None,
        callback: Callable[[State], None] | None = None,
        full: Literal[False] = False,
        log_prob: None = None,
        grad: bool | Literal["checkpoint"] = False,
        progress: bool | None = None,
    ) -> Tensor: ...
    def __call__(
        self,
        shape: Sequence[int] | None = None,
        *,
        x: Tensor | None = None,
        seed: int = 0,
        index: int | Sequence[int] = 0,
        cond: dict[str, Any] | None = None,
        resume: State | None = None,
        callback: Callable[[State], None] | None = None,
        full: bool = False,
        log_prob: Literal["steps"] | None = None,
        grad: bool | Literal["checkpoint"] = False,
        progress: bool | None = None,
    ) -> Tensor | SampleRecord:
        """Samples (B, ...), arguments as in `sample`."""
        if x is not None or callback is not None or progress is not None or full is not False or grad is not False:
            check_call(callback, full, grad, progress, x)
        counter = CallCounter() if full or log_prob else None
        wrap = counter.wrap if counter else None
        run = self.run(shape, x=x, seed=seed, index=index, cond=cond, resume=resume, wrap=wrap)
        plain, trajectory = callback is None and resume is None and not (full or grad or log_prob), list[Tensor]()
        if log_prob is not None or grad == "checkpoint":
            run = prepared(run, log_prob, grad, resume)
        with torch.set_grad_enabled(bool(grad)):
            if self.compile and plain and recordable(run, self._make_graph):
                final = self.replayed(run)
            else:
                states = self.states(run)
                # What `track` would find itself, asked here to spare every short run a call.
                if progress or (progress is None and sys.stderr.isatty()):
                    states = track(states, len(run.plan.times) - run.first, "sampling", progress)
                for state in states:
                    if grad and state.prediction is not None and not state.prediction.raw.requires_grad:
                        check_gradients(self.model.given(**run.model.cond), run.x, state)
                    if callback is not None:
                        watched(callback, state)
                    if counter is not None:
                        trajectory.append(state.x)
                final = state.x if state.prediction is None else state.prediction.x0
        if grad:
            check_graph(final)
        kind = self._dtype or (None if x is None else x.dtype)
        final = final if kind is None else final.to(kind)
        return final if counter is None else record(run, final, trajectory, state, counter.calls)

    def replayed(self, run: Run) -> Tensor:
        """The result of a run, its loop recorded at the first call for states and conditions like these."""
        return replayed(run, self._recorded, self._make_graph)
