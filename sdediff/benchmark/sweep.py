"""The sweep: every solver at every budget on every task, from the same noise."""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from sdediff import metrics
from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError, InputTypeError
from sdediff._utils.machine import machine, versions
from sdediff._utils.progress import track
from sdediff.benchmark.report import Report
from sdediff.benchmark.results import RealDataFloor, SkippedTrial, SolverResult
from sdediff.benchmark.tasks import Task, resolve_task
from sdediff.benchmark.trials import (
    PAIRED,
    Distance,
    TaskSetup,
    Trial,
    exact_flow,
    fastest_thread_count,
    follows_flow,
    preserve_thread_count,
    run_trial,
)
from sdediff.integrate import IntegrationError
from sdediff.model.score_model import ScoreModel
from sdediff.sampling.run import check_eval, placement
from sdediff.solvers import Solver
from sdediff.solvers import solver as resolve_solver
from sdediff.targets import ExactNet
from sdediff.wiring import warn_of_misfit

Solvers = Sequence[str | Solver] | Mapping[str, Solver]

DEFAULT_SOLVERS: dict[str, dict[str, Any]] = {
    "euler_maruyama": {},
    "reverse_diffusion": {},
    "ancestral": {},
    "ddpm": {},
    "predictor_corrector": {},
    "annealed_langevin": {"n": 1},
    "sde": {},
    "ddim": {},
    "euler": {},
    "heun": {},
    "dpmpp_2m": {},
    "ode": {},
}


def bench(
    tasks: Sequence[str | ScoreModel | Task] = ("digits", "gmm64"),
    solvers: Solvers | None = None,
    calls: Sequence[int] = (5, 10, 20, 50),
    *,
    tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
    samples: int | None = None,
    batch: int = 100,
    distance: str | Distance = "frechet[pca32]",
    data: Any = None,
    cond: dict[str, Any] | None = None,
    seed: int = 0,
    device: Any = None,
    dtype: torch.dtype | None = None,
    progress: bool | None = None,
    check: bool = True,
) -> Report:
    """Run every solver at every number of network evaluations on every task and report quality and time.

    tasks: names of sdediff.targets (exact score, under VP), models or names of models as in `sdediff.load`, Task
    objects. data: what samples of models follow, a DataSet or a tensor (N, ...), where the package does not hold them.
    cond: conditions, whose tensors give their rows to the samples in turn. solvers: names,
    objects, or objects by a label; adaptive ones run at `tolerances` instead of `calls`. samples: how many a solver
    draws, `batch` at a time. distance: a name of metrics.DISTANCES, frechet with its features in brackets, or a
    function. A budget that a solver cannot meet is listed in `skipped`. check: begin with `sdediff.check` of each
    network on up to 128 true samples.
    """
    began = time.perf_counter()
    if isinstance(tasks, str) or not isinstance(tasks, Sequence):
        raise InputTypeError(f"tasks={tasks!r:.60}: give a list of names or Task objects, e.g. ['digits']")
    samples, batch = samples if samples is None else whole("samples", samples), whole("batch", batch)
    if (samples is not None and samples < 1) or batch < 1:
        raise InputError(f"samples={samples}, batch={batch}: both must be positive")
    trials, metric = list(_trials(solvers, calls, tolerances)), distance_function(distance)
    resolved = [resolve_task(task, device, dtype, data, cond) for task in tasks]
    for task in resolved if check else ():
        # Conditions go with the samples, not with the rows of the data.
        if not isinstance(task.model.net, ExactNet) and not task.cond:
            warn_of_misfit(task.model, task.truth, None, dtype, device)
    setups = [_setup(task, samples, batch, seed, dtype, device, metric) for task in resolved]
    floors = [_floor(setup) for setup in setups]
    results, skipped = _run_all(setups, trials, progress)
    if not results:
        raise InputError(f"nothing could run: {skipped[0].reason}" if skipped else "nothing to run: give solvers")
    return Report(
        tuple(results),
        tuple(RealDataFloor(s.task.name, f.value, f.std_error) for s, f in zip(setups, floors, strict=True)),
        tuple(skipped),
        _settings(setups, trials, calls, tolerances, floors[0].name),
        versions(),
        machine(setups[0].device),
        time.perf_counter() - began,
    )


def _run_all(
    setups: Sequence[TaskSetup], trials: Sequence[Trial], progress: bool | None
) -> tuple[list[SolverResult], list[SkippedTrial]]:
    """A result for every task and trial that runs, and a reason for every other."""
    results: list[SolverResult] = []
    skipped: list[SkippedTrial] = []
    pairs = [(at, trial) for at in range(len(setups)) for trial in trials]
    ready = list(setups)
    with preserve_thread_count():
        for at, trial in track(pairs, len(pairs), "bench", progress):
            if ready[at].exact is None and any(follows_flow(t.solver) for t in trials):
                ready[at] = dataclasses.replace(ready[at], exact=exact_flow(ready[at]))
            try:
                results.append(run_trial(ready[at], trial))
            except (ValueError, IntegrationError) as error:
                skipped.append(SkippedTrial(ready[at].task.name, trial.name, trial.budget, str(error)))
    return results, skipped


def _trials(solvers: Solvers | None, calls: Sequence[int], tolerances: Sequence[float]) -> Iterator[Trial]:
    """One trial for each solver and budget; the budget of an adaptive solver is its tolerance."""
    if solvers is None:
        named = {name: resolve_solver(name, **options) for name, options in DEFAULT_SOLVERS.items()}
    elif isinstance(solvers, Mapping):
        named = dict(solvers)
    else:
        named = {kind if isinstance(kind, str) else repr(kind): resolve_solver(kind) for kind in solvers}
    for name, solver in named.items():
        if solver.spent(1) is not None:
            yield from (Trial(name, solver, n) for n in calls)
        elif {"rtol", "atol"} <= {field.name for field in dataclasses.fields(solver)}:
            for tolerance in tolerances:
                adapted = dataclasses.replace(solver, rtol=tolerance, atol=tolerance)  # type: ignore[call-arg]
                yield Trial(name, adapted, float(tolerance))
        else:
            yield Trial(name, solver, None)


def distance_function(distance: str | Distance) -> Distance:
    """A distance by name, frechet with its features in brackets; ValueError with the nearest names."""
    if not isinstance(distance, str):
        return distance
    match = re.fullmatch(r"(\w+)(?:\[(\w+)\])?", distance)
    name, features = match.groups() if match else (distance, None)
    function = metrics.distance(name)
    return functools.partial(function, features=features) if features else function


def _setup(
    task: Task,
    samples: int | None,
    batch: int,
    seed: int,
    dtype: torch.dtype | None,
    device: Any,
    distance: Distance,
) -> TaskSetup:
    check_eval(task.model)
    dtype, device = placement(task.model, dtype, device)
    size = samples or task.samples
    x = torch.zeros((min(batch, size), *task.shape), dtype=dtype, device=device)
    threads = (
        fastest_thread_count(task.model, x, task.conditions(0, len(x)))
        if device.type == "cpu"
        else torch.get_num_threads()
    )
    return TaskSetup(task, size, batch, seed, dtype, device, distance, threads)


def _floor(setup: TaskSetup) -> metrics.Estimate:
    """The distance of as many real samples as a solver draws, spread evenly over all of them."""
    real = setup.task.real
    rows = torch.linspace(0, len(real) - 1, min(setup.samples, len(real))).round().long()
    try:
        return setup.distance(real[rows].cpu(), setup.task.truth.cpu())
    except ValueError as error:
        raise InputError(f"samples={setup.samples} of {setup.task.name} cannot be compared: {error}") from error


def _settings(
    setups: Sequence[TaskSetup], trials: Sequence[Trial], calls: Sequence[int], tolerances: Sequence[float], name: str
) -> dict[str, Any]:
    return {
        "tasks": {s.task.name: {
            "model": s.task.describe(), "samples": s.samples, "truth": len(s.task.truth),
            "dtype": str(s.dtype).removeprefix("torch."), "device": str(s.device), "threads": s.threads,
            "reference": f"{s.task.reference} on the noise of the first {PAIRED} samples",
        } for s in setups},
        "solvers": {trial.name: repr(trial.solver) for trial in trials},
        "calls": list(calls), "tolerances": list(tolerances), "distance": name,
        "batch": setups[0].batch, "seed": setups[0].seed,
    }  # fmt: skip
