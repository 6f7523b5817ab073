"""A sweep from its arguments, which are plain values where other processes are to compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sdediff._utils.checks import listed, number, state_device, state_dtype, whole
from sdediff._utils.errors import InputError
from sdediff.benchmark.chosen import AutoEntry
from sdediff.benchmark.contended import contender_entries
from sdediff.benchmark.entries import Entry, RealData, SolverEntry
from sdediff.benchmark.measures import distance_functions
from sdediff.benchmark.sweep_work import PlannedCell, SweepWork
from sdediff.benchmark.tasks import Task, resolve_task, target_task
from sdediff.jobs import JobError, Recipe
from sdediff.jobs.names import NamedModel, as_model, named_data
from sdediff.model.network import check_eval, parameter_count
from sdediff.model.score_model import ScoreModel
from sdediff.noise.counter import Counter
from sdediff.solvers import Solver, solver

Model = str | ScoreModel | Task
Solvers = Sequence[str | Solver] | Mapping[str, str | Solver]
Models = Sequence[Model] | Mapping[str, Model]

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
DEFAULT_MODELS, DEFAULT_TARGETS = ("digits-vp",), ("gmm64",)
# A network of more parameters than this is evaluated by all threads: smaller ones are often slower on two than on one.
_SMALL = 10_000_000


def make_sweep(
    models: Models | None,
    targets: Sequence[str] | None,
    data: Any,
    solvers: Solvers | None,
    grids: Sequence[str] | None,
    calls: Sequence[int],
    tolerances: Sequence[float],
    seeds: int,
    seed: int,
    samples: int | None,
    batch: int,
    distances: Any,
    cond: dict[str, Any] | None,
    contenders: Sequence[Any] = (),
    raced: Sequence[int] = (),
    racing: bool = False,
    threads: int | None = None,
    skip_failed: bool = False,
    trust: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> SweepWork:
    """The sweep of `sdediff.bench`. raced: cells that get further seeds, one for each mention; racing: some may."""
    counts = [whole("calls", count, 1) for count in listed("calls", calls, "[5, 10]")]
    tolerances = [number("tolerances", tolerance) for tolerance in listed("tolerances", tolerances, "[1e-2, 1e-3]")]
    grids = None if grids is None else listed("grids", grids, "['karras']")
    if not counts:
        raise InputError("calls=[]: give numbers of network evaluations, such as calls=[5, 10]")
    if dtype is not None:
        state_dtype(dtype)
    if device is not None:
        state_device(device)
    seed, seeds, batch = Counter(seed).seed, whole("seeds", seeds, 1), whole("batch", batch, 1)
    tasks = _tasks(models, targets, data, cond, trust, dtype, device)
    entries: list[Entry] = [*_entries(solvers), *contender_entries(contenders)]
    if not entries:
        raise InputError("nothing to run: give solvers")
    planned = _planned(tasks, entries, range(seed, seed + seeds), counts, tolerances, grids or (None,))
    base, planned = len(planned), planned + further(planned, raced, seed + seeds)
    count = threads or default_threads(tasks)
    sizes = {task.name: whole("samples", samples, 1) if samples is not None else task.samples for task in tasks}
    settings: dict[str, Any] = {
        "seed": seed, "calls": counts, "tolerances": list(tolerances), "grids": list(grids or ())
    }  # fmt: skip
    if racing:  # further cells follow those of a fixed number of seeds, which cannot grow then
        settings["seeds"] = seeds
    work = SweepWork(
        planned, tasks, entries, distance_functions(distances), sizes, batch, count, settings, skip_failed, dtype,
        device, base,
    )  # fmt: skip
    work.check_distances()
    return work


def _planned(
    tasks: Sequence[Task],
    entries: Sequence[Entry],
    seeds: Sequence[int],
    counts: Sequence[int],
    tolerances: Sequence[float],
    grids: Sequence[str | None],
) -> list[PlannedCell]:
    """The cells of all tasks and entries, real data among them, a seed after the other."""
    return [
        PlannedCell(task, entry, point, seed)
        for seed in seeds
        for task in tasks
        for entry in (RealData(), *entries)
        for point in entry.points(counts, tolerances, grids)
    ]


def _tasks(
    models: Models | None, targets: Sequence[str] | None, data: Any, cond: Any, trust: Any, dtype: Any, device: Any
) -> list[Task]:
    """The tasks of models and targets, without any of both the default ones."""
    if models is None and targets is None:
        models, targets = DEFAULT_MODELS if data is None else (), DEFAULT_TARGETS
    if models is not None and not isinstance(models, Mapping):
        models = _list("models", models)
    labelled = models.items() if isinstance(models, Mapping) else [(None, model) for model in models or ()]
    rows = named_data(data) if isinstance(data, str) else data
    tasks = []
    for label, model in labelled:
        if isinstance(model, NamedModel):
            model = as_model(model, device=device, dtype=dtype)
        task = resolve_task(model, device, dtype, rows, cond, trust)
        tasks.append(task if label is None else replace(task, name=label))
    tasks += [target_task(name, device, dtype) for name in _list("targets", () if targets is None else targets)]
    if not tasks:
        raise InputError("nothing to sample from: give models, or targets")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise InputError(f"two models are named {max(names, key=names.count)!r}: give them as a dict of names")
    for task in tasks:
        check_eval(task.model)
    return tasks


def _entries(solvers: Solvers | None) -> list[Entry]:
    """Entries of solvers by name or object, or by a label of the caller's; "auto" chooses by measurement."""
    if solvers is None:
        return [SolverEntry(name, solver(name, **options)) for name, options in DEFAULT_SOLVERS.items()]
    if isinstance(solvers, Mapping):
        named: Mapping[str, str | Solver] = solvers
    else:
        named = {s if isinstance(s, str) else repr(s): s for s in _list("solvers", solvers)}
    return [AutoEntry(label) if s == "auto" else SolverEntry(label, solver(s)) for label, s in named.items()]


def _list(name: str, given: Any) -> tuple[Any, ...]:
    """A list of names or objects; a name alone is refused with the list of it."""
    return listed(name, given, f"[{given!r}]" if isinstance(given, str) else "[...]")


def further(planned: list[PlannedCell], raced: Sequence[int], seed: int) -> list[PlannedCell]:
    """Cells with further seeds, for each its own next one."""
    more, times = [], dict.fromkeys(raced, 0)
    for cell in raced:
        more.append(planned[cell]._replace(seed=seed + times[cell]))
        times[cell] += 1
    return more


def default_threads(tasks: Sequence[Task]) -> int:
    """One thread where all networks are small, else as many as torch has: a rule, so that runs give equal numbers."""
    largest = max(parameter_count(task.model.net) for task in tasks)
    return torch.get_num_threads() if largest > _SMALL else 1


def sweep_recipe(engine: str, arguments: dict[str, Any], work: SweepWork) -> Recipe | None:
    """The recipe for the processes of an engine, None for this process; JobError for objects that cannot travel."""
    if engine == "local":
        return None
    models = arguments["models"]
    if models is not None:
        given = models.values() if isinstance(models, Mapping) else models
        models = {
            task.name: NamedModel.of(model) or model if isinstance(model, ScoreModel) else model
            for task, model in zip(work.tasks, given, strict=False)
        }
    for name, values in {"models": (models or {}).values(), "data": [arguments["data"]]}.items():
        for value in values:
            if not isinstance(value, str | NamedModel | None):
                raise JobError(
                    f"{name}= holds a {type(value).__name__}, which the processes of engine={engine!r} cannot load by "
                    "themselves: give a name, a folder or a file, or compute in this process"
                )
    return Recipe("sdediff.benchmark.making:make_sweep", {**arguments, "models": models}, work.threads).of(work)
