"""The sweep: every solver at every budget on every problem, from the same noise."""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from sdediff import metrics
from sdediff._utils.machine import machine, versions
from sdediff._utils.progress import track
from sdediff.benchmark.problems import Problem, found
from sdediff.benchmark.report import Floor, Report, Row, Skip
from sdediff.benchmark.runs import PAIRED, Distance, Job, Setting, exact_flow, on_flow, quickest, row, threads_kept
from sdediff.integrate import IntegrationError
from sdediff.sampling.plan import check_eval, placement
from sdediff.solvers import Solver, solver

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
    problems: Sequence[str | Problem] = ("digits", "gmm64"),
    solvers: Solvers | None = None,
    calls: Sequence[int] = (5, 10, 20, 50),
    *,
    tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
    samples: int | None = None,
    batch: int = 100,
    distance: str | Distance = "frechet[pca32]",
    seed: int = 0,
    device: Any = None,
    dtype: torch.dtype | None = None,
    progress: bool | None = None,
) -> Report:
    """Every solver at every number of network calls on every problem: quality, time, and their record.

    problems: names of sdediff.targets (exact score, under VP) or embedded models, or Problem objects.
    solvers: names, objects, or objects by a label; adaptive ones run at `tolerances` in place of `calls`.
    samples a solver, drawn `batch` at a time; distance: a name of metrics.DISTANCES, frechet with its
    features in brackets, or a function. A budget that a solver cannot meet is listed in `skipped`.
    """
    began = time.perf_counter()
    if (samples is not None and samples < 1) or batch < 1:
        raise ValueError(f"samples={samples}, batch={batch}: both must be positive")
    jobs, metric = list(_jobs(solvers, calls, tolerances)), measure(distance)
    chosen = [found(kind, device, dtype) for kind in problems]
    settings = [_setting(problem, samples, batch, seed, dtype, device, metric) for problem in chosen]
    floors = [_floor(setting) for setting in settings]
    rows, skipped = _swept(settings, jobs, progress)
    if not rows:
        raise ValueError(f"nothing could run: {skipped[0].reason}" if skipped else "nothing to run: give solvers")
    return Report(
        tuple(rows),
        tuple(Floor(s.problem.name, f.value, f.std_error) for s, f in zip(settings, floors, strict=True)),
        tuple(skipped),
        _about(settings, jobs, calls, tolerances, floors[0].name),
        versions(),
        machine(settings[0].device),
        time.perf_counter() - began,
    )


def _swept(settings: Sequence[Setting], jobs: Sequence[Job], progress: bool | None) -> tuple[list[Row], list[Skip]]:
    """A row for every problem and job that runs, and a reason for every other."""
    rows: list[Row] = []
    skipped: list[Skip] = []
    work = [(at, job) for at in range(len(settings)) for job in jobs]
    ready = list(settings)
    with threads_kept():
        for at, job in track(work, len(work), "bench", progress):
            if ready[at].exact is None and any(on_flow(j.solver) for j in jobs):
                ready[at] = dataclasses.replace(ready[at], exact=exact_flow(ready[at]))
            try:
                rows.append(row(ready[at], job))
            except (ValueError, IntegrationError) as error:
                skipped.append(Skip(ready[at].problem.name, job.name, job.asked, str(error)))
    return rows, skipped


def _jobs(solvers: Solvers | None, calls: Sequence[int], tolerances: Sequence[float]) -> Iterator[Job]:
    """A job a solver and budget; an adaptive solver's budget is its tolerance."""
    if solvers is None:
        named = {name: solver(name, **options) for name, options in DEFAULT_SOLVERS.items()}
    elif isinstance(solvers, Mapping):
        named = dict(solvers)
    else:
        named = {kind if isinstance(kind, str) else repr(kind): solver(kind) for kind in solvers}
    for label, made in named.items():
        if made.spent(1) is not None:
            yield from (Job(label, made, n) for n in calls)
        elif {"rtol", "atol"} <= {f.name for f in dataclasses.fields(made)}:
            for tol in tolerances:
                yield Job(label, dataclasses.replace(made, rtol=tol, atol=tol), float(tol))  # type: ignore[call-arg]
        else:
            yield Job(label, made, None)


def measure(distance: str | Distance) -> Distance:
    """A distance by name, frechet with its features in brackets; ValueError with the nearest names."""
    if not isinstance(distance, str):
        return distance
    match = re.fullmatch(r"(\w+)(?:\[(\w+)\])?", distance)
    name, features = match.groups() if match else (distance, None)
    found = metrics.distance(name)
    return functools.partial(found, features=features) if features else found


def _setting(
    problem: Problem, samples: int | None, batch: int, seed: int, dtype: torch.dtype | None, device: Any, d: Distance
) -> Setting:
    check_eval(problem.model)
    kind, place = placement(problem.model, dtype, device)
    size = samples or problem.samples
    trial = torch.zeros((min(batch, size), *problem.shape), dtype=kind, device=place)
    threads = quickest(problem.model, trial) if place.type == "cpu" else torch.get_num_threads()
    return Setting(problem, size, batch, seed, kind, place, d, threads)


def _floor(setting: Setting) -> metrics.Estimate:
    """The distance of as many real samples, taken evenly from all there are."""
    real = setting.problem.real
    rows = torch.linspace(0, len(real) - 1, min(setting.samples, len(real))).round().long()
    try:
        return setting.distance(real[rows].cpu(), setting.problem.truth.cpu())
    except ValueError as error:
        raise ValueError(f"samples={setting.samples} of {setting.problem.name} do not do: {error}") from error


def _about(
    settings: Sequence[Setting], jobs: Sequence[Job], calls: Sequence[int], tolerances: Sequence[float], name: str
) -> dict[str, Any]:
    return {
        "problems": {s.problem.name: {
            "model": s.problem.describe(), "samples": s.samples, "truth": len(s.problem.truth),
            "dtype": str(s.dtype).removeprefix("torch."), "device": str(s.device), "threads": s.threads,
            "reference": f"{s.problem.reference} on the first {PAIRED} samples' noise",
        } for s in settings},
        "solvers": {job.name: repr(job.solver) for job in jobs},
        "calls": list(calls), "tolerances": list(tolerances), "distance": name,
        "batch": settings[0].batch, "seed": settings[0].seed,
    }  # fmt: skip
