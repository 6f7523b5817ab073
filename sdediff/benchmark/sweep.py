"""`bench`: every solver at every budget on every task, from the same starts, as a job that resumes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from sdediff._utils.checks import whole
from sdediff._utils.errors import InputError
from sdediff._utils.files import expanded
from sdediff.benchmark.cells import OK
from sdediff.benchmark.making import Models, Solvers, make_sweep
from sdediff.benchmark.report import Report
from sdediff.benchmark.rounds import Sweep, seconds_of
from sdediff.benchmark.sweep_work import SweepWork
from sdediff.jobs.launching import Launch, stderr
from sdediff.jobs.manifest import stored_threads
from sdediff.jobs.work import Say
from sdediff.targets import ExactNet
from sdediff.wiring import warn_of_misfit


def bench(
    models: Models | None = None,
    solvers: Solvers | None = None,
    calls: Sequence[int] = (5, 10, 20, 50),
    *,
    targets: Sequence[str] | None = None,
    data: Any = None,
    grids: Sequence[str] | None = None,
    tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
    contenders: Sequence[Any] = (),
    seeds: int = 3,
    budget: float | str | None = None,
    samples: int | None = None,
    batch: int = 100,
    distances: Any = ("frechet[pca32]", "energy"),
    cond: dict[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    part: str | None = None,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    trust: Sequence[str] = (),
    num_threads: int | None = None,
    skip_failed: bool = False,
    dtype: torch.dtype | None = None,
    device: Any = None,
    progress: bool | None = None,
    check: bool = True,
    likelihoods: int = 32,
    say: Say | None = None,
) -> Report:
    """Run every solver at every number of network evaluations on every task; the report has quality and time.

    models: names as in `sdediff.load`, models or Task objects, or these by a label. data: what their samples follow,
    a path, a DataSet or a tensor (N, ...), where the package does not hold them. targets: names of sdediff.targets,
    whose score is exact. solvers: names, objects, or these by a label; adaptive ones run at `tolerances` in place of
    calls. contenders: as in `resolve_contenders`. grids: for every solver, in place of its own. seeds: runs from seed,
    seed + 1, ..., `samples` samples each, `batch` at a time. budget: seconds, or a text such as "3m", that further
    seeds fill where the ranking is uncertain. distances: names of metrics.DISTANCES, frechet with its features in
    brackets, or functions. out: the folder of the job, which continues where it was interrupted; part, engine, workers,
    address: as in `likelihood_job`. likelihoods: of each network on so many rows of its data, 0 for none. Without a
    budget qualities are equal to the digit in every run with these arguments; times are not.
    """
    say = say or (stderr if out is not None else _quiet)
    limit = None if budget is None else seconds_of(budget)
    if limit is not None and part is not None:
        raise InputError(
            f"budget={budget!r} with part={part!r}: a part does not see the others' ranking: leave one out"
        )
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(out) if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = expanded(folder, "the folder")
        arguments: dict[str, Any] = {
            "models": models, "targets": targets, "data": data, "solvers": solvers, "contenders": contenders,
            "grids": grids, "calls": calls, "tolerances": tolerances, "seeds": seeds, "seed": seed, "samples": samples,
            "batch": batch, "distances": distances, "cond": cond, "threads": num_threads or stored_threads(folder),
            "racing": limit is not None, "skip_failed": skip_failed, "trust": trust, "dtype": dtype, "device": device,
        }  # fmt: skip
        work = make_sweep(**arguments)
        launch = Launch.of(
            folder, engine=engine, workers=workers, address=address, part=part, num_threads=work.threads, micro_batch=1,
            shard=1, keep=skip_failed, progress=progress, say=say,
        )  # fmt: skip
        rows = whole("likelihoods", likelihoods, 0)
        sweep = Sweep(work, launch, {**arguments, "threads": work.threads}, rows)
        if check and launch.first:
            _check_wiring(work, say)
        if limit is None:
            sweep.run([])
        else:
            sweep.race(began + limit)
        report = Report.load(folder)
        if report.finished and not any(cell.status == OK for cell in report.cells if cell.calls):
            raise InputError(f"nothing could run: {report.skipped[0].status}")
        return report


def _check_wiring(work: SweepWork, say: Say) -> None:
    """The check of each network on up to 128 true samples, under their conditions."""
    for task in work.tasks:
        if isinstance(task.model.net, ExactNet):
            continue
        if task.cond and task.truth_cond is None:
            say(f"{task.name}: no check of its wiring, since the conditions have no row a row of the data")
        else:
            warn_of_misfit(task.model, task.truth, task.truth_cond, work.dtype, work.device)


def _quiet(text: str) -> None:
    """Messages of a job in a folder that nobody sees."""
